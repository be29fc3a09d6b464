use super::*;
use offshoot_block::Buffer;
use offshoot_device::{ErrorDevice, Fault, FileDevice, MemDevice, OpKind};
use offshoot_store::{CreateOptions, Identity, InitOptions, Verb};
use uuid::Uuid;

/// A store on a device, with a thin lvol of 16 MiB.
fn store_with_lvol<D: HostDevice + 'static>(device: D) -> (Served, BlobId) {
    let options = InitOptions {
        journal_bytes: None,
        name: "lvs".to_owned(),
        uuid: Uuid::from_u128(1),
        cluster_size: 256 << 10,
        block_size: 512,
        md_page_size: 4096,
        native: true,
        clear_method: offshoot_store::ClearMethod::Default,
    };
    let mut store = Store::init(
        Box::new(device) as Device,
        &options,
        &offshoot_store::OpenOptions::writable([1; 16], None),
    )
    .unwrap();
    let create = Verb::Create {
        identity: Identity { name: "vol".to_owned(), uuid: Uuid::from_u128(2), created: 0 },
        size_bytes: 16 << 20,
        options: CreateOptions::provisioned(false),
    };
    let lvol = store.execute(create).unwrap()[0];
    (Served::new("store".into(), store), lvol)
}

fn memory() -> (Served, BlobId) {
    store_with_lvol(MemDevice::new(64 << 20, 512))
}

/// Submits one command and polls until it is answered.
fn run(served: &mut Served, lvol: BlobId, command: Command) -> Reply {
    let mut pool = BufferPool::new();
    if let Some(reply) = served.submit(RequestId(9), lvol, command, &mut pool) {
        return reply;
    }
    let mut replies = Vec::new();
    while replies.is_empty() {
        served.poll(&mut pool, &mut replies);
    }
    assert_eq!(replies.len(), 1);
    let (id, reply) = replies.remove(0);
    assert_eq!(id, RequestId(9));
    assert!(served.pending.is_empty());
    reply
}

fn write(offset: u64, byte: u8, len: usize) -> Command {
    Command::Write { offset, data: Buffer::copy_of(&vec![byte; len]), fua: false }
}

#[test]
fn data_comes_back_and_holes_need_no_reading() {
    let (mut served, lvol) = memory();
    assert!(matches!(run(&mut served, lvol, write(4096, 7, 4096)), Reply::Done));
    assert!(matches!(run(&mut served, lvol, Command::Flush), Reply::Done));
    let read = |offset, len| Command::Read { offset, len };
    assert!(matches!(run(&mut served, lvol, read(0, 4096)), Reply::Zeroes));
    let Reply::Data(data) = run(&mut served, lvol, read(2048, 4096)) else {
        panic!("half of it is data");
    };
    assert_eq!(data.as_slice()[..2048], [0; 2048]);
    assert_eq!(data.as_slice()[2048..], [7; 2048]);
}

#[test]
fn block_status_is_bounded() {
    let (mut served, lvol) = memory();
    for number in 0..8 {
        run(&mut served, lvol, write(number * 8192, 7, 4096));
    }
    let status = |len, one| Command::BlockStatus { offset: 0, len, one };
    let extent = |len, stored: bool| Extent { len, allocated: stored, zero: !stored };
    let Reply::Status(extents) = run(&mut served, lvol, status(16384, false)) else {
        panic!("a status");
    };
    assert_eq!(extents, [true, false, true, false].map(|stored| extent(4096, stored)));
    let Reply::Status(extents) = run(&mut served, lvol, status(1 << 20, true)) else {
        panic!("a status");
    };
    assert_eq!(extents, [extent(4096, true)]);
}

#[test]
fn an_lvol_that_went_away_is_an_error_and_nothing_worse() {
    let (mut served, lvol) = memory();
    served.store.execute(Verb::Remove { lvol }).unwrap();
    for command in [
        write(0, 1, 512),
        Command::Read { offset: 0, len: 512 },
        Command::Trim { offset: 0, len: 4096, fua: false },
        Command::BlockStatus { offset: 0, len: 4096, one: false },
    ] {
        let text = format!("{command:?}");
        let reply = run(&mut served, lvol, command);
        assert!(matches!(reply, Reply::Error(Errno::Shutdown)), "{text}: {reply:?}");
    }
    assert!(matches!(run(&mut served, lvol, Command::Flush), Reply::Done));
}

#[test]
fn a_device_error_reaches_the_client() {
    let mut device = ErrorDevice::new(MemDevice::new(64 << 20, 512));
    // Everything that makes and opens the store passes; the data of lvols comes behind the first 20 MiB.
    device.inject(Fault::new(5).on(OpKind::Write).within(20 << 20..64 << 20));
    let (mut served, lvol) = store_with_lvol(device);
    let replies: Vec<Reply> =
        (0..256).map(|number| run(&mut served, lvol, write(number << 16, 1, 1 << 16))).collect();
    assert!(matches!(replies[0], Reply::Done));
    assert!(matches!(replies[255], Reply::Error(Errno::Io)), "{:?}", replies[255]);
    assert!(matches!(run(&mut served, lvol, Command::Read { offset: 0, len: 512 }), Reply::Data(_)));
}

#[test]
fn only_devices_without_a_descriptor_must_be_polled() {
    let read = || Command::Read { offset: 0, len: 4096 };
    let mut pool = BufferPool::new();
    let (mut served, lvol) = memory();
    run(&mut served, lvol, write(0, 1, 4096));
    assert!(!served.must_be_polled());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::File::create_new(&path).unwrap().set_len(64 << 20).unwrap();
    let (mut served, lvol) = store_with_lvol(FileDevice::open(&path, &OpenOptions::writable()).unwrap());
    run(&mut served, lvol, write(0, 1, 4096));
    assert!(served.submit(RequestId(9), lvol, read(), &mut pool).is_none());
    served.poll(&mut pool, &mut Vec::new());
    assert!(!served.must_be_polled(), "its descriptor tells of the end");
}
