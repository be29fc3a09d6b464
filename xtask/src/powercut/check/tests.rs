//! The check against a store in memory whose writes were logged.

use std::cell::RefCell;
use std::rc::Rc;

use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_store::{CreateOptions, Identity, InitOptions, Verb};
use uuid::Uuid;

use super::super::log::tests::{END, Raw, encode, open};
use super::super::pattern::Stamp;
use super::super::trace::parse;
use super::*;

const DISK_BYTES: usize = 16 << 20;
const VOLUME_BYTES: u64 = 256 << 10;

const FLUSH: u64 = 1;
const MARK: u64 = 8;

/// A logged entry: flags, sector, sectors, data.
type Logged = (u64, u64, u64, Vec<u8>);

/// A disk in memory that keeps a log of what is written to it.
#[derive(Debug, Default)]
struct LoggedDisk {
    content: Rc<RefCell<Vec<u8>>>,
    log: Rc<RefCell<Vec<Logged>>>,
    completed: Vec<Completion>,
}

impl LoggedDisk {
    fn new() -> Self {
        Self { content: Rc::new(RefCell::new(vec![0; DISK_BYTES])), ..Self::default() }
    }

    /// The same disk, for somebody who opens it.
    fn attach(&self) -> Self {
        Self { content: Rc::clone(&self.content), log: Rc::clone(&self.log), completed: Vec::new() }
    }

    fn mark(&self, number: u32) {
        self.log.borrow_mut().push((MARK, 0, 0, number.to_string().into_bytes()));
    }

    fn put(&self, offset: u64, bytes: Vec<u8>) {
        let start = usize::try_from(offset).unwrap();
        self.content.borrow_mut()[start..start + bytes.len()].copy_from_slice(&bytes);
        self.log.borrow_mut().push((0, offset / 512, bytes.len() as u64 / 512, bytes));
    }
}

impl BlockDevice for LoggedDisk {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            size_bytes: DISK_BYTES as u64,
            logical_block: 512,
            physical_block: 512,
            volatile_cache: true,
            read_only: false,
        }
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let buffer = match op {
            DeviceOp::Read { offset, mut buffer } => {
                let start = usize::try_from(offset.0).unwrap();
                let len = buffer.len();
                buffer.as_mut_slice().copy_from_slice(&self.content.borrow()[start..start + len]);
                Some(buffer)
            }
            DeviceOp::Write { offset, buffer } => {
                self.put(offset.0, buffer.as_slice().to_vec());
                Some(buffer)
            }
            DeviceOp::WriteZeroes { offset, len, .. } => {
                self.put(offset.0, vec![0; usize::try_from(len).unwrap()]);
                None
            }
            DeviceOp::Unmap { .. } => None,
            DeviceOp::Sync => {
                self.log.borrow_mut().push((FLUSH, 0, 0, Vec::new()));
                None
            }
        };
        self.completed.push(Completion { id, buffer, result: Ok(()) });
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.completed);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.completed.len()
    }
}

/// What a store did with a volume that was made, written to, flushed and written to again.
const TRACE: &str = "mark 1\ncreate 0 512\ndone\nmark 2\nwrite 1 0 8 24 0\nack 1\nflush 2 0\nack 2\nmark 3\n\
    write 3 0 16 8 0\nack 3\nclosed\nmark 4\n";

/// The base of the disk, its log and its end.
fn record() -> (Vec<u8>, Vec<Logged>, Vec<u8>) {
    let disk = LoggedDisk::new();
    let options = InitOptions {
        name: "powercut".to_owned(),
        uuid: Uuid::from_u128(1),
        cluster_size: 64 << 10,
        block_size: 512,
        md_page_size: 4096,
        journal_bytes: None,
        native: true,
        clear_method: offshoot_store::ClearMethod::Default,
    };
    let opening = OpenOptions::writable([1; 16], None);
    let (_, closed) = Store::init(disk.attach(), &options, &opening).unwrap().close();
    closed.unwrap();
    let base = disk.content.borrow().clone();
    disk.log.borrow_mut().clear();

    disk.mark(1);
    let mut store = Store::open(disk.attach(), Vec::new(), &OpenOptions::writable([2; 16], None)).unwrap();
    let identity = Identity { name: "v0".to_owned(), uuid: Uuid::from_u128(2), created: 0 };
    let made = store
        .execute(Verb::Create {
            identity,
            size_bytes: VOLUME_BYTES,
            options: CreateOptions::provisioned(false),
        })
        .unwrap();
    disk.mark(2);
    store.write(made[0], 8 * 512, data(1, 8, 24)).unwrap();
    store.flush().unwrap();
    disk.mark(3);
    store.write(made[0], 16 * 512, data(3, 16, 8)).unwrap();
    store.close().1.unwrap();
    disk.mark(4);
    let end = disk.content.borrow().clone();
    (base, disk.log.take(), end)
}

fn data(op: u32, first: u64, count: usize) -> Buffer {
    let mut buffer = Buffer::zeroed(count * 512);
    for (bytes, sector) in buffer.as_mut_slice().chunks_mut(512).zip(first..) {
        Stamp { op, volume: 0, sector }.fill(bytes);
    }
    buffer
}

fn run_of(base: Vec<u8>, log: &[Logged], trace: &str) -> Run {
    let raw = log.iter().map(|(flags, sector, sectors, data)| (*flags, *sector, *sectors, data.as_slice()));
    let raw: Vec<Raw<'_>> = raw.chain([END]).collect();
    let trace = parse(trace.as_bytes()).unwrap();
    Run { base, log: open(&encode(512, &raw)).unwrap(), trace, seed: 1, states: 0 }
}

#[test]
fn what_was_promised_is_there_at_every_mark() {
    let (base, log, end) = record();
    let run = run_of(base, &log, TRACE);
    run.compare_end(&end).unwrap();
    let counts = run.check().unwrap();
    assert_eq!((counts.marks, counts.states, counts.violations), (4, 4, 0), "{counts:?}");
}

#[test]
fn a_log_that_lacks_something_does_not_lead_to_the_disk() {
    let (base, log, mut end) = record();
    let run = run_of(base, &log, TRACE);
    end[DISK_BYTES - 1] ^= 1;
    assert!(run.compare_end(&end).is_err());
}

#[test]
fn a_disk_that_ignores_flushes_breaks_the_promises() {
    let (base, mut log, _) = record();
    log.retain(|(flags, ..)| *flags != FLUSH);
    let counts = run_of(base, &log, TRACE).check().unwrap();
    // Nothing reaches the medium, so that the volume is gone from where it was made.
    assert_eq!((counts.states, counts.violations), (4, 3));
    let kinds: Vec<(&str, usize)> =
        counts.kinds.iter().map(|(common, kind)| (&**common, kind.count)).collect();
    assert_eq!(kinds, [("v is gon", 3)]);
}

#[test]
fn a_promise_that_was_not_kept_is_found() {
    let (base, log, _) = record();
    // The second write was not flushed where this says so.
    let trace = TRACE.replace("ack 3\nclosed\n", "ack 3\nflush 4 0\nack 4\nmark 4\nclosed\n");
    let trace = trace.replace("closed\nmark 4", "closed\nmark 5");
    let mut log = log;
    let second = log.iter().rposition(|(flags, ..)| *flags == MARK).unwrap();
    log[second].3 = b"5".to_vec();
    let third = log.iter().position(|entry| entry.0 == MARK && entry.3 == b"3").unwrap();
    log.insert(third + 1, (MARK, 0, 0, b"4".to_vec()));
    let counts = run_of(base, &log, &trace).check().unwrap();
    assert_eq!(counts.violations, 1);
    let line = &counts.kinds.values().next().unwrap().wrong;
    assert!(line.contains("v0: sector 16 holds Written(Stamp { op: 1"), "{line}");
    assert!(line.contains("may hold the data of 3; and 7 more"), "{line}");
}
