//! The table. It mirrors SPDK's `schema.yaml` for what can be answered about lvols; what SPDK does not have says so.

use super::{Errors, Method, When, optional, required};
use crate::error::RpcError;
use crate::types::bdev::{BdevName, CreateAio, CreateMalloc, CreateUring, GetBdevs};
use crate::types::config::{Config, GetConfig};
use crate::types::framework::{ContextSwitchMonitor, GetMethods, KillInstance, SetScheduler};
use crate::types::iostat::{EnableHistogram, GetIostat, ResetIostat};
use crate::types::log::{LogFlag, SetLogLevel};
use crate::types::lvol::{
    CloneBdev, CloneLvol, CreateLvol, DecoupleParent, DeleteLvol, DiffLvols, GetLvols, GroupSnapshot,
    InflateLvol, LvolName, MergeSnapshots, RenameLvol, ResizeLvol, RevertLvol, SetParent, SnapshotLvol,
};
use crate::types::lvstore::{CreateLvstore, DeleteLvstore, GetLvstores, GrowLvstore, RenameLvstore};
use crate::types::nbd::{AllowClients, ExportLvol, GetDisks, GetExports, StartDisk, StopDisk};
use crate::types::notify::GetNotifications;
use crate::types::operation::CancelOperation;
use crate::types::qos::SetQosLimit;
use crate::types::shallow_copy::{CheckShallowCopy, StartShallowCopy};
use crate::types::vbdev::{CreateDelay, CreateError, CreateNull, InjectError, ResizeNull, UpdateLatency};

/// Of most methods of lvols.
const LVOL: Errors = Errors { wrong_params: RpcError::DECODE, failure_code: RpcError::INVALID_PARAMS };

/// Of methods of bdevs, and of `bdev_lvol_delete`, which deletes one.
const BDEV: Errors = Errors { wrong_params: RpcError::DECODE, failure_code: RpcError::INTERNAL_ERROR };

/// Of methods about the server.
const SERVER: Errors = Errors { wrong_params: RpcError::PARAMS, failure_code: RpcError::INTERNAL_ERROR };

/// A row has the variant of [`Call`], the method's name, when it may be called, and:
/// - its parameters, `required` or `optional`, and its errors; or
/// - `without` parameters, and the answer when there are any.
macro_rules! methods {
    ($(
        $(#[doc = $doc:literal])*
        $variant:ident = $name:literal, $when:ident, $rule:ident $payload:tt;
    )*) => {
        methods!(@call [] $($(#[doc = $doc])* $variant $name $rule $payload;)*);

        /// Every method.
        pub static METHODS: &[Method] = &[
            $(methods!(@method $variant $name $when $rule $payload),)*
        ];
    };
    (@call [$($done:tt)*] $(#[doc = $doc:literal])* $variant:ident $name:literal required
        ($params:ty, $errors:expr); $($rest:tt)*) => {
        methods!(@call [$($done)* #[doc = concat!("`", $name, "`")] $(#[doc = $doc])* $variant($params),] $($rest)*);
    };
    (@call [$($done:tt)*] $(#[doc = $doc:literal])* $variant:ident $name:literal optional
        ($params:ty, $errors:expr); $($rest:tt)*) => {
        methods!(@call [$($done)* #[doc = concat!("`", $name, "`")] $(#[doc = $doc])* $variant(Option<$params>),] $($rest)*);
    };
    (@call [$($done:tt)*] $(#[doc = $doc:literal])* $variant:ident $name:literal without
        ($wrong:literal); $($rest:tt)*) => {
        methods!(@call [$($done)* #[doc = concat!("`", $name, "`")] $(#[doc = $doc])* $variant,] $($rest)*);
    };
    (@call [$($done:tt)*]) => {
        /// A request that one method understands.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Call { $($done)* }
    };
    (@method $variant:ident $name:literal $when:ident without ($wrong:literal)) => {
        Method {
            name: $name,
            when: When::$when,
            errors: Errors {
                wrong_params: RpcError::new(RpcError::INVALID_PARAMS, $wrong),
                failure_code: RpcError::INTERNAL_ERROR,
            },
            decode: |params| params.is_none().then_some(Call::$variant),
        }
    };
    (@method $variant:ident $name:literal $when:ident $rule:ident ($params:ty, $errors:expr)) => {
        Method {
            name: $name,
            when: When::$when,
            errors: $errors,
            decode: |params| $rule(params).map(Call::$variant),
        }
    };
}

methods! {
    /// makes an lvstore.
    CreateLvstore = "bdev_lvol_create_lvstore", Runtime, required(CreateLvstore, LVOL);
    /// deletes an lvstore and every lvol in it.
    DeleteLvstore = "bdev_lvol_delete_lvstore", Runtime, required(DeleteLvstore, LVOL);
    /// lists lvstores, or one.
    GetLvstores = "bdev_lvol_get_lvstores", Runtime, optional(GetLvstores, LVOL);
    /// renames an lvstore.
    RenameLvstore = "bdev_lvol_rename_lvstore", Runtime, required(RenameLvstore, LVOL);
    /// grows an lvstore to the size of its bdev.
    GrowLvstore = "bdev_lvol_grow_lvstore", Runtime, required(GrowLvstore, LVOL);
    /// makes an lvol.
    CreateLvol = "bdev_lvol_create", Runtime, required(CreateLvol, LVOL);
    /// makes a snapshot of an lvol.
    SnapshotLvol = "bdev_lvol_snapshot", Runtime, required(SnapshotLvol, LVOL);
    /// makes a clone of a snapshot.
    CloneLvol = "bdev_lvol_clone", Runtime, required(CloneLvol, LVOL);
    /// makes a clone of an external snapshot.
    CloneBdev = "bdev_lvol_clone_bdev", Runtime, required(CloneBdev, LVOL);
    /// renames an lvol.
    RenameLvol = "bdev_lvol_rename", Runtime, required(RenameLvol, LVOL);
    /// changes the size of an lvol.
    ResizeLvol = "bdev_lvol_resize", Runtime, required(ResizeLvol, LVOL);
    /// makes an lvol read-only.
    SetReadOnly = "bdev_lvol_set_read_only", Runtime, required(LvolName, LVOL);
    /// deletes an lvol.
    DeleteLvol = "bdev_lvol_delete", Runtime, required(DeleteLvol, BDEV);
    /// gives an lvol a cluster of its own everywhere.
    InflateLvol = "bdev_lvol_inflate", Runtime, required(InflateLvol, LVOL);
    /// makes an lvol independent of its parent.
    DecoupleParent = "bdev_lvol_decouple_parent", Runtime, required(DecoupleParent, LVOL);
    /// makes an lvol independent of its parent; what only that held reads zeros. Not in SPDK.
    DetachParent = "bdev_lvol_detach_parent", Runtime, required(LvolName, LVOL);
    /// lists lvols, or those of one lvstore.
    GetLvols = "bdev_lvol_get_lvols", Runtime, optional(GetLvols, LVOL);
    /// gives an lvol another parent.
    SetParent = "bdev_lvol_set_parent", Runtime, required(SetParent, LVOL);
    /// gives an lvol an external snapshot for a parent.
    SetParentBdev = "bdev_lvol_set_parent_bdev", Runtime, required(SetParent, LVOL);
    /// makes an lvol read what a snapshot of its family reads. Not in SPDK.
    RevertLvol = "bdev_lvol_revert", Runtime, required(RevertLvol, LVOL);
    /// makes snapshots of several lvols at one point in time. Not in SPDK.
    GroupSnapshot = "bdev_lvol_group_snapshot", Runtime, required(GroupSnapshot, LVOL);
    /// merges snapshots into what lies on them. Not in SPDK.
    MergeSnapshots = "bdev_lvol_merge", Runtime, required(MergeSnapshots, LVOL);
    /// tells where two lvols of a family may read differently. Not in SPDK.
    DiffLvols = "bdev_lvol_diff", Runtime, required(DiffLvols, LVOL);
    /// lists long operations. Not in SPDK.
    GetOperations = "bdev_lvol_get_operations", Runtime, without("bdev_lvol_get_operations requires no parameters");
    /// ends a long operation. Not in SPDK.
    CancelOperation = "bdev_lvol_cancel", Runtime, required(CancelOperation, LVOL);
    /// begins to copy the clusters of an lvol.
    StartShallowCopy = "bdev_lvol_start_shallow_copy", Runtime, required(StartShallowCopy, LVOL);
    /// tells how far such a copy is.
    CheckShallowCopy = "bdev_lvol_check_shallow_copy", Runtime, required(CheckShallowCopy, LVOL);
    /// lists bdevs, or one.
    GetBdevs = "bdev_get_bdevs", Runtime, optional(GetBdevs, BDEV);
    /// tells what was asked of bdevs, and how long it took.
    GetIostat = "bdev_get_iostat", Runtime, optional(GetIostat, BDEV);
    /// begins to count that anew.
    ResetIostat = "bdev_reset_iostat", Runtime, optional(ResetIostat, BDEV);
    /// counts latencies by buckets, or does not any more.
    EnableHistogram = "bdev_enable_histogram", Runtime, required(EnableHistogram, BDEV);
    /// tells these counts.
    GetHistogram = "bdev_get_histogram", Runtime, required(BdevName, BDEV);
    /// limits what may be asked of a bdev.
    SetQosLimit = "bdev_set_qos_limit", Runtime, required(SetQosLimit, BDEV);
    /// looks for an lvstore on a bdev.
    ExamineBdev = "bdev_examine", Runtime, required(BdevName, BDEV);
    /// makes a bdev of a file.
    CreateAio = "bdev_aio_create", Runtime, required(CreateAio, BDEV);
    /// takes note of the size of a file.
    RescanAio = "bdev_aio_rescan", Runtime, required(BdevName, BDEV);
    /// lets go of a file.
    DeleteAio = "bdev_aio_delete", Runtime, required(BdevName, BDEV);
    /// makes a bdev of memory.
    CreateMalloc = "bdev_malloc_create", Runtime, required(CreateMalloc, BDEV);
    /// frees it.
    DeleteMalloc = "bdev_malloc_delete", Runtime, required(BdevName, BDEV);
    /// makes a bdev of a file, through io_uring.
    CreateUring = "bdev_uring_create", Runtime, required(CreateUring, BDEV);
    /// takes note of the size of such a file.
    RescanUring = "bdev_uring_rescan", Runtime, required(BdevName, BDEV);
    /// lets go of such a file.
    DeleteUring = "bdev_uring_delete", Runtime, required(BdevName, BDEV);
    /// makes a bdev that holds nothing.
    CreateNull = "bdev_null_create", Runtime, required(CreateNull, BDEV);
    /// gives it another size.
    ResizeNull = "bdev_null_resize", Runtime, required(ResizeNull, BDEV);
    /// deletes it.
    DeleteNull = "bdev_null_delete", Runtime, required(BdevName, BDEV);
    /// makes a bdev over another one that fails when it is told to.
    CreateError = "bdev_error_create", Runtime, required(CreateError, BDEV);
    /// tells it to.
    InjectError = "bdev_error_inject_error", Runtime, required(InjectError, BDEV);
    /// deletes it.
    DeleteError = "bdev_error_delete", Runtime, required(BdevName, BDEV);
    /// makes a bdev over another one that takes its time.
    CreateDelay = "bdev_delay_create", Runtime, required(CreateDelay, BDEV);
    /// says how much.
    UpdateLatency = "bdev_delay_update_latency", Runtime, required(UpdateLatency, BDEV);
    /// deletes it.
    DeleteDelay = "bdev_delay_delete", Runtime, required(BdevName, BDEV);
    /// waits until every bdev was looked at.
    WaitForExamine = "bdev_wait_for_examine", Runtime, without("bdev_wait_for_examine requires no parameters");
    /// attaches a bdev to a device of the kernel's.
    StartDisk = "nbd_start_disk", Runtime, required(StartDisk, BDEV);
    /// detaches it.
    StopDisk = "nbd_stop_disk", Runtime, required(StopDisk, BDEV);
    /// lists such devices, or one.
    GetDisks = "nbd_get_disks", Runtime, optional(GetDisks, BDEV);
    /// offers an lvol to NBD clients. Not in SPDK.
    ExportLvol = "nbd_export", Runtime, required(ExportLvol, BDEV);
    /// says which NBD clients may open an lvol. Not in SPDK.
    AllowClients = "nbd_allow", Runtime, required(AllowClients, BDEV);
    /// offers an lvol to NBD clients no longer. Not in SPDK.
    UnexportLvol = "nbd_unexport", Runtime, required(ExportLvol, BDEV);
    /// lists what NBD clients can open. Not in SPDK.
    GetExports = "nbd_get_exports", Runtime, optional(GetExports, BDEV);
    /// lists methods.
    GetMethods = "rpc_get_methods", Always, optional(GetMethods, SERVER);
    /// tells the version.
    GetVersion = "spdk_get_version", Always, without("spdk_get_version method requires no parameters");
    /// lists what is configured.
    GetSubsystems = "framework_get_subsystems", Always, without("framework_get_subsystems requires no parameters");
    /// tells the calls that configure it.
    GetConfig = "framework_get_config", Always, required(GetConfig, SERVER);
    /// tells all of them. Not in SPDK, where its client does.
    SaveConfig = "save_config", Runtime, without("save_config requires no parameters");
    /// tells of the thread that serves.
    GetReactors = "framework_get_reactors", Runtime, without("`framework_get_reactors` requires no arguments");
    /// tells who moves threads.
    GetScheduler = "framework_get_scheduler", Always, without("'rpc_get_scheduler' requires no arguments");
    /// says who does.
    SetScheduler = "framework_set_scheduler", Always, required(SetScheduler, SERVER);
    /// has the log tell of switches of context, or tells whether it does.
    MonitorContextSwitch = "framework_monitor_context_switch", Runtime, optional(ContextSwitchMonitor, SERVER);
    /// makes the calls of a configuration. Not in SPDK, where its client does.
    LoadConfig = "load_config", Runtime, required(Config, SERVER);
    /// sends the server a signal.
    KillInstance = "spdk_kill_instance", Always, required(KillInstance, SERVER);
    /// tells what the server is at. Not in SPDK.
    DumpState = "framework_dump_state", Runtime, without("framework_dump_state requires no parameters");
    /// tells up to which level is logged.
    GetLogLevel = "log_get_level", Always, without("log_get_level requires no parameters");
    /// sets that.
    SetLogLevel = "log_set_level", Always, required(SetLogLevel, SERVER);
    /// tells up to which level is logged.
    GetPrintLevel = "log_get_print_level", Always, without("log_get_print_level requires no parameters");
    /// sets that.
    SetPrintLevel = "log_set_print_level", Always, required(SetLogLevel, SERVER);
    /// tells which parts of the server are logged in full.
    GetLogFlags = "log_get_flags", Always, without("log_get_flags requires no parameters");
    /// logs a part in full.
    SetLogFlag = "log_set_flag", Always, required(LogFlag, SERVER);
    /// logs it as the others.
    ClearLogFlag = "log_clear_flag", Always, required(LogFlag, SERVER);
    /// lists what notifications can be about.
    GetNotificationTypes = "notify_get_types", Always, without("No parameters required");
    /// tells what has happened.
    GetNotifications = "notify_get_notifications", Always, optional(GetNotifications, SERVER);
    /// ends the startup state.
    StartInit = "framework_start_init", Startup, without("framework_start_init requires no parameters");
    /// waits for the runtime state.
    WaitInit = "framework_wait_init", Always, without("framework_wait_init requires no parameters");
}
