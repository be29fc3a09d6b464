//! Which metrics there are.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::super::served::Served;
use super::super::stats::{LATENCY_BOUNDS_US, Op, OpStats};
use super::exposition::Exposition;
use offshoot_store::Blob;

/// Clusters that lvols hold in one store, above which nobody counts which they share: that would take too long.
const SHARED_CLUSTERS_MAX: u64 = 1 << 20;

/// A number of one store.
type OfStore = fn(&Served) -> f64;

/// What is written about one kind of requests to an lvol.
type Samples = fn(&mut Exposition, &[(&str, &str)], &OpStats);

/// Name, type, help, value.
const STORES: &[(&str, &str, &str, OfStore)] = &[
    ("offshoot_store_size_bytes", "gauge", "Size of the store.", |store| {
        float(store.engine().state().layout.size_bytes)
    }),
    ("offshoot_store_free_bytes", "gauge", "Clusters that belong to nobody.", |store| {
        clusters(store, store.engine().state().space().free)
    }),
    ("offshoot_store_pending_free_bytes", "gauge", "Clusters of what was removed, coming free.", |store| {
        clusters(store, store.engine().state().space().pending_free)
    }),
    ("offshoot_store_allocated_bytes", "gauge", "Clusters that lvols hold.", |store| {
        clusters(store, store.engine().state().space().allocated)
    }),
    ("offshoot_store_committed_bytes", "gauge", "Sizes of thick and reserved lvols.", |store| {
        clusters(store, store.engine().state().space().committed)
    }),
    ("offshoot_store_reserved_bytes", "gauge", "Free clusters kept for lvols with a reservation.", |store| {
        clusters(store, store.engine().state().space().reserved)
    }),
    ("offshoot_store_md_pages_free", "gauge", "Metadata pages that belong to nobody.", |store| {
        float(store.engine().state().md.free() as u64)
    }),
    ("offshoot_store_lvols", "gauge", "Lvols, snapshots and clones.", |store| {
        float(store.engine().state().lvols().count() as u64)
    }),
    ("offshoot_store_damage_findings", "gauge", "What opening the store found wrong.", |store| {
        float(store.view().findings.len() as u64)
    }),
    ("offshoot_store_read_only", "gauge", "1 if the store takes no writes.", |store| {
        let engine = store.engine();
        f64::from(u8::from(engine.is_read_only() || engine.failure().is_some()))
    }),
    ("offshoot_store_journal_size_bytes", "gauge", "Size of the journal.", |store| {
        float(store.engine().journal_fill().size)
    }),
    ("offshoot_store_journal_used_bytes", "gauge", "What of the journal is needed still.", |store| {
        float(store.engine().journal_fill().used)
    }),
    ("offshoot_store_journal_written_bytes_total", "counter", "Bytes appended to the journal.", |store| {
        float(store.engine().counters().frame_bytes)
    }),
    ("offshoot_store_journal_frames_total", "counter", "Appends to the journal.", |store| {
        float(store.engine().counters().frames)
    }),
    ("offshoot_store_checkpoints_total", "counter", "Checkpoints.", |store| {
        float(store.engine().counters().checkpoints)
    }),
    (
        "offshoot_store_barriers_total",
        "counter",
        "Barriers: flushes, verbs, and one a second at least.",
        |store| float(store.engine().counters().barriers),
    ),
    (
        "offshoot_store_write_amplification_ratio",
        "gauge",
        "Bytes written to the device for each byte that a client wrote, since the store is open.",
        write_amplification,
    ),
];

/// All metrics of now.
pub(super) fn report(stores: &StoreBackend) -> String {
    let mut out = Exposition::default();
    out.family("offshoot_build_info", "gauge", "1, with the version as a label.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let named: Vec<(StoreId, String, &Served)> =
        stores.stores().map(|(id, store)| (id, store.engine().state().name(), store)).collect();
    for (name, kind, help, value) in STORES {
        out.family(name, kind, help);
        for (_, label, store) in &named {
            out.sample(&[("store", label)], value(store));
        }
    }
    devices(&mut out, &named);
    lvols(&mut out, stores, &named);
    requests(&mut out, &named);
    limits(&mut out, &named);
    connections(&mut out, &named);
    out.into_text()
}

fn devices(out: &mut Exposition, named: &[(StoreId, String, &Served)]) {
    out.family("offshoot_device_operations_total", "counter", "Operations of the device below a store.");
    for (_, store, served) in named {
        let stats = served.device_stats();
        for (op, count) in [
            ("read", stats.reads.ops),
            ("write", stats.writes.ops),
            ("write_zeroes", stats.write_zeroes.ops),
            ("unmap", stats.unmaps.ops),
            ("sync", stats.syncs),
        ] {
            out.sample(&[("store", store), ("op", op)], count);
        }
    }
    out.family("offshoot_device_bytes_total", "counter", "Bytes of these operations.");
    for (_, store, served) in named {
        let stats = served.device_stats();
        for (op, count) in [
            ("read", stats.reads),
            ("write", stats.writes),
            ("write_zeroes", stats.write_zeroes),
            ("unmap", stats.unmaps),
        ] {
            out.sample(&[("store", store), ("op", op)], count.bytes);
        }
    }
}

/// What is known of lvols without their clients.
fn lvols(out: &mut Exposition, stores: &StoreBackend, named: &[(StoreId, String, &Served)]) {
    let mut each = |name, kind, help, value: &dyn Fn(StoreId, &Served, &Blob) -> Option<u64>| {
        out.family(name, kind, help);
        for (id, label, store) in named {
            for lvol in store.engine().state().lvols() {
                if let Some(value) = value(*id, store, lvol) {
                    out.sample(&[("store", label), ("lvol", &lvol.display_name())], value);
                }
            }
        }
    };
    each("offshoot_lvol_size_bytes", "gauge", "Size of an lvol.", &|_, store, lvol| {
        Some(store.engine().state().bytes(lvol))
    });
    each("offshoot_lvol_own_bytes", "gauge", "Clusters that an lvol holds itself.", &|_, store, lvol| {
        Some(lvol.own_clusters * store.engine().state().units.cluster)
    });
    each("offshoot_lvol_connections", "gauge", "Clients that are connected to an lvol.", &|id, _, lvol| {
        Some(stores.connections(Export { store: id, lvol: lvol.id }) as u64)
    });
    each(
        "offshoot_lvol_first_writes_total",
        "counter",
        "Writes that needed a record, being the first to their blocks.",
        &|_, store, lvol| store.engine().counters().first_writes.get(&lvol.id).copied(),
    );
    out.family(
        "offshoot_lvol_shared_bytes",
        "gauge",
        "Clusters that an lvol reads from its snapshots; only where the store holds up to 2^20 clusters.",
    );
    for (_, label, store) in named {
        let state = store.engine().state();
        if state.space().allocated > SHARED_CLUSTERS_MAX {
            continue;
        }
        for (id, space) in state.spaces() {
            let name = state.blob(id).map(Blob::display_name).unwrap_or_default();
            out.sample(&[("store", label), ("lvol", &name)], space.shared * state.units.cluster);
        }
    }
}

/// What clients have asked of lvols.
fn requests(out: &mut Exposition, named: &[(StoreId, String, &Served)]) {
    let mut each = |name, kind, help, write: Samples| {
        out.family(name, kind, help);
        for (_, label, store) in named {
            for lvol in store.engine().state().lvols() {
                let Some(stats) = store.stats(lvol.id) else { continue };
                let name = lvol.display_name();
                for op in Op::ALL {
                    let asked = stats.of(op);
                    // An lvol that nobody writes to need not say so in a dozen lines.
                    if asked.count + asked.errors > 0 {
                        write(out, &[("store", label), ("lvol", &name), ("op", op.name())], asked);
                    }
                }
            }
        }
    };
    each("offshoot_lvol_operations_total", "counter", "Requests that were done.", |out, labels, asked| {
        out.sample(labels, asked.count);
    });
    each("offshoot_lvol_bytes_total", "counter", "Bytes of these requests.", |out, labels, asked| {
        out.sample(labels, asked.bytes);
    });
    each("offshoot_lvol_errors_total", "counter", "Requests that failed.", |out, labels, asked| {
        out.sample(labels, asked.errors);
    });
    each("offshoot_lvol_latency_seconds", "histogram", "How long requests took.", |out, labels, asked| {
        let mut count = 0;
        for (bound, bucket) in LATENCY_BOUNDS_US.iter().zip(asked.buckets) {
            count += bucket;
            let bound = (float(*bound) / 1e6).to_string();
            out.suffixed("_bucket", &[labels, &[("le", &bound)]].concat(), count);
        }
        out.suffixed("_bucket", &[labels, &[("le", "+Inf")]].concat(), asked.count);
        out.suffixed("_sum", labels, float(asked.latency_ns) / 1e9);
        out.suffixed("_count", labels, asked.count);
    });
}

/// What lvols are limited to, those that are.
fn limits(out: &mut Exposition, named: &[(StoreId, String, &Served)]) {
    let limited = || {
        named.iter().flat_map(|(_, label, store)| {
            let lvols = store.engine().state().lvols();
            lvols.filter_map(move |lvol| Some((label, *store, lvol, store.held_up(lvol.id)?)))
        })
    };
    out.family(
        "offshoot_lvol_limit_operations_per_second",
        "gauge",
        "Requests a second that an lvol is limited to.",
    );
    for (label, store, lvol, _) in limited() {
        let ops = store.limits(lvol.id).ops;
        if ops > 0 {
            out.sample(&[("store", label), ("lvol", &lvol.display_name())], ops);
        }
    }
    out.family("offshoot_lvol_limit_bytes_per_second", "gauge", "Bytes a second that an lvol is limited to.");
    for (label, store, lvol, _) in limited() {
        let limits = store.limits(lvol.id);
        for (op, bytes) in
            [("all", limits.bytes), ("read", limits.bytes_read), ("write", limits.bytes_written)]
        {
            if bytes > 0 {
                out.sample(&[("store", label), ("lvol", &lvol.display_name()), ("op", op)], bytes);
            }
        }
    }
    out.family("offshoot_lvol_held_requests_total", "counter", "Requests that a limit had wait.");
    for (label, _, lvol, held) in limited() {
        out.sample(&[("store", label), ("lvol", &lvol.display_name())], held);
    }
}

fn connections(out: &mut Exposition, named: &[(StoreId, String, &Served)]) {
    out.family(
        "offshoot_connection_requests_in_flight",
        "gauge",
        "Requests of a connection that are not answered yet, where there are any.",
    );
    for (_, label, store) in named {
        for (connection, count) in store.in_flight() {
            out.sample(&[("store", label), ("connection", &connection.to_string())], count);
        }
    }
}

fn write_amplification(store: &Served) -> f64 {
    let written: u64 = store
        .engine()
        .state()
        .lvols()
        .filter_map(|lvol| store.stats(lvol.id))
        .map(|stats| stats.of(Op::Write).bytes)
        .sum();
    match written {
        0 => f64::NAN,
        written => float(store.device_stats().writes.bytes) / float(written),
    }
}

fn clusters(store: &Served, count: u64) -> f64 {
    float(count * store.engine().state().units.cluster)
}

/// Exact up to 2^53, and Prometheus knows nothing else.
#[allow(clippy::cast_precision_loss, reason = "numbers of Prometheus are floats")]
fn float(value: u64) -> f64 {
    value as f64
}
