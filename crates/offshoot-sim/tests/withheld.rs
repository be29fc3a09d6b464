//! What is withheld on the device withholds the reply: asserted by the device, not by time.

#![allow(clippy::unwrap_used, reason = "a test")]

use offshoot_block::{BlockDevice, Buffer};
use offshoot_format::BlobId;
use offshoot_sim::{DiskState, Setup, SimDisk, Withheld};
use offshoot_store::{
    CreateOptions, Error, Identity, IoRequest, OpenOptions, Reply, Session, Store, Ticket, Verb,
};
use uuid::Uuid;

const BLOCK: usize = 4096;

struct Fixture {
    disk: SimDisk,
    store: Store<SimDisk>,
    lvol: BlobId,
}

impl Fixture {
    /// A store with one thin lvol, at which nothing is under way.
    fn new() -> Self {
        let state: DiskState = Setup::SMALLEST.blank();
        let disk = SimDisk::resume(state, 3);
        let session = Session { boot_id: [1; 16], device_generation: 1 };
        let mut store =
            Store::open(disk.clone(), Vec::new(), &OpenOptions::writable([1; 16], Some(session))).unwrap();
        let lvol = store.execute(create("disk")).unwrap()[0];
        store.flush().unwrap();
        settle(&disk, &mut store);
        Self { disk, store, lvol }
    }

    /// Withholds every write into the journal.
    fn withhold_appends(&self) {
        let header = self.store.super_block().native.as_ref().unwrap();
        let area = header.journal.unwrap();
        let layout = &self.store.state().layout;
        let start = layout.md_page_offset(area.start);
        self.disk.withhold(Withheld::Writes(start..start + u64::from(area.len) * 4096));
    }

    fn write(&mut self, fua: bool) -> Ticket {
        let data = Buffer::copy_of(&[7; BLOCK]);
        self.store.submit(IoRequest::Write { lvol: self.lvol, offset: 0, data, fua })
    }

    /// Nothing is replied to while something is withheld; everything is once it is released.
    fn assert_waits(&mut self, ticket: Ticket) {
        assert_eq!(settle(&self.disk, &mut self.store), [], "a reply came too early");
        assert!(self.disk.withheld() > 0, "nothing was withheld: {} under way", self.disk.outstanding());
        self.disk.release();
        assert_eq!(settle(&self.disk, &mut self.store), [ticket]);
    }
}

/// Polls until nothing moves any more, and says what was replied to.
fn settle(disk: &SimDisk, store: &mut Store<SimDisk>) -> Vec<Ticket> {
    let mut replies: Vec<(Ticket, Result<Reply, Error>)> = Vec::new();
    let mut before = None;
    while before != Some(disk.asked()) {
        before = Some(disk.asked());
        store.poll(&mut replies);
    }
    replies.into_iter().map(|(ticket, result)| result.map(|_| ticket).unwrap()).collect()
}

fn create(name: &str) -> Verb {
    let identity = Identity { name: name.into(), uuid: Uuid::from_u128(5 + name.len() as u128), created: 0 };
    Verb::Create { identity, size_bytes: 8 * 16_384, options: CreateOptions::provisioned(false) }
}

#[test]
fn a_withheld_append_withholds_the_reply_to_a_first_write() {
    let mut fixture = Fixture::new();
    fixture.withhold_appends();
    let ticket = fixture.write(false);
    fixture.assert_waits(ticket);
}

#[test]
fn a_withheld_append_withholds_the_reply_to_a_verb() {
    let mut fixture = Fixture::new();
    fixture.withhold_appends();
    let ticket = fixture.store.start(create("other"));
    fixture.assert_waits(ticket);
}

#[test]
fn a_withheld_sync_withholds_flush_fua_and_verbs() {
    type Request = fn(&mut Fixture) -> Ticket;
    let requests: [Request; 3] = [
        |fixture| fixture.store.submit(IoRequest::Flush),
        |fixture| fixture.write(true),
        |fixture| fixture.store.start(create("other")),
    ];
    for request in requests {
        let mut fixture = Fixture::new();
        let written = fixture.write(false);
        assert_eq!(settle(&fixture.disk, &mut fixture.store), [written]);
        fixture.disk.withhold(Withheld::Syncs);
        let ticket = request(&mut fixture);
        fixture.assert_waits(ticket);
    }
}

#[test]
fn a_write_waits_for_no_sync() {
    let mut fixture = Fixture::new();
    fixture.disk.withhold(Withheld::Syncs);
    let ticket = fixture.write(false);
    assert_eq!(settle(&fixture.disk, &mut fixture.store), [ticket]);
}
