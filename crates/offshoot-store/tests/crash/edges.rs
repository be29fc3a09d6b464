//! The edges of R6, each by its name: when the tail behind the last barrier counts, and what never comes back.

use super::lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, Shared, options, pattern, writable_in};
use super::{AFTER_ANOTHER, BLOCK, CLUSTER, base, content, open, write};
use offshoot_block::DeviceError;
use offshoot_device::{ErrorDevice, Fault, MemDevice, OpKind};
use offshoot_format::NativeFlags;
use offshoot_store::{Error, InitOptions, OpenOptions, Session, Store};

/// What a store was opened in, and is opened in again after a kill.
type Sessions = (Option<Session>, Option<Session>);

fn killed(store: Store<MemDevice>) -> MemDevice {
    // What was given to the device is done, and nobody hears of it.
    store.device().clone()
}

/// A flushed first write of seed 1 at the start of `clone`, and one of seed 2 behind it that no barrier covers.
fn with_tail(start: MemDevice, session: Option<Session>) -> MemDevice {
    let mut store = open(start, &writable_in(session), "at rest");
    write(&mut store, "clone", 0, BLOCK, 1);
    store.flush().unwrap();
    write(&mut store, "clone", BLOCK, BLOCK, 2);
    killed(store)
}

/// Whether the flushed and the other write of [`with_tail`] are there.
fn seen(device: MemDevice, options: &OpenOptions) -> (bool, bool) {
    let mut store = open(device, options, "after a kill");
    let bytes = store.content("clone");
    (bytes[..4096] == *pattern(BLOCK, 1).as_slice(), bytes[4096..8192] == *pattern(BLOCK, 2).as_slice())
}

fn assert_tail((before, after): Sessions, counts: bool) {
    let left = with_tail(base(true), before);
    for options in [writable_in(after), OpenOptions::read_only(after)] {
        assert_eq!(seen(left.clone(), &options), (true, counts), "{before:?} to {after:?}");
    }
}

impl From<MemDevice> for Shared<ErrorDevice<MemDevice>> {
    fn from(device: MemDevice) -> Self {
        Self::new(ErrorDevice::new(device))
    }
}

#[test]
fn the_tail_counts_after_a_kill() {
    assert_tail((Some(SESSION), Some(SESSION)), true);
}

#[test]
fn the_tail_is_dropped_when_the_power_may_have_gone() {
    assert_tail((Some(SESSION), Some(AFTER_POWER_LOSS)), false);
    // The same boot, but the device has been away.
    let away = Session { device_generation: 2, ..SESSION };
    assert_tail((Some(SESSION), Some(away)), false);
    assert_tail((Some(SESSION), None), false);
}

/// Where nobody can tell whether the power was lost nothing is replied to before a barrier covers it, so nothing is
/// lost although no tail ever counts.
#[test]
fn without_a_session_every_reply_waits_for_a_barrier() {
    for after in [None, Some(SESSION)] {
        assert_tail((None, after), true);
    }
}

/// A write that failed casts doubt on the writes before it: the super block says so, a barrier follows at once, and
/// every reply from then on waits for one.
#[test]
fn a_device_error_brings_a_barrier_about() {
    let device = Shared::new(ErrorDevice::new(base(true)));
    let mut store = open(device.clone(), &writable_in(Some(SESSION)), "at rest");
    write(&mut store, "clone", 0, BLOCK, 1);
    store.flush().unwrap();
    write(&mut store, "clone", BLOCK, BLOCK, 2);
    device.borrow().inject(Fault::new(5).on(OpKind::Write).times(1));
    let lvol = store.id("thin");
    let failed = store.write(lvol, 2 * CLUSTER, pattern(BLOCK, 3)).unwrap_err();
    assert_eq!(failed, Error::Device(DeviceError::Io { errno: 5 }));
    let native = store.super_block().native.clone().unwrap();
    assert!(native.flags.contains(NativeFlags::DEVICE_ERROR));
    store.flush().unwrap();
    let left = device.borrow().inner().clone();
    assert_eq!(seen(left, &writable_in(Some(SESSION))), (true, true));

    write(&mut store, "clone", 2 * BLOCK, BLOCK, 4);
    let left = device.borrow().inner().clone();
    let mut store = open(left, &writable_in(Some(AFTER_POWER_LOSS)), "after a power loss");
    assert_eq!(
        store.content("clone")[8192..12_288],
        *pattern(BLOCK, 4).as_slice(),
        "covered before the reply"
    );
}

/// A super block that says that a device operation failed: what no barrier covers does not count, whatever the session.
#[test]
fn the_tail_is_dropped_after_a_device_error() {
    let device = Shared::new(ErrorDevice::new(base(true)));
    let mut store = open(device.clone(), &writable_in(Some(SESSION)), "at rest");
    write(&mut store, "clone", 0, BLOCK, 1);
    store.flush().unwrap();
    write(&mut store, "clone", BLOCK, BLOCK, 2);
    let mut left = device.borrow().inner().clone();
    assert_eq!(seen(left.clone(), &writable_in(Some(SESSION))), (true, true));
    let mut super_block = store.super_block().clone();
    if let Some(native) = &mut super_block.native {
        native.flags.insert(NativeFlags::DEVICE_ERROR);
    }
    left.write_at(0, &super_block.encode());
    assert_eq!(seen(left, &writable_in(Some(SESSION))), (true, false));
}

/// What was dropped once never comes back, whatever power the next opening finds.
#[test]
fn a_dropped_tail_stays_dropped() {
    let left = with_tail(base(true), Some(SESSION));
    let mut device = killed(open(left, &writable_in(Some(AFTER_POWER_LOSS)), "after a cut"));
    for power in [AFTER_POWER_LOSS, AFTER_ANOTHER, SESSION] {
        assert_eq!(seen(device.clone(), &writable_in(Some(power))), (true, false));
        device = killed(open(device, &writable_in(Some(power)), "again"));
    }
    let mut store = open(device, &writable_in(Some(SESSION)), "again");
    write(&mut store, "clone", 2 * BLOCK, BLOCK, 3);
    assert_eq!(seen(killed(store), &writable_in(Some(SESSION))), (true, false));
}

/// Frames of many epochs lie in the ring side by side, each a kill in the middle of its tail.
#[test]
fn frames_of_earlier_epochs_are_dead() {
    let init = InitOptions { journal_bytes: Some(64 << 10), ..options(65_536, 4096, true) };
    let power = |round: u64| Session { device_generation: round / 3, ..SESSION };
    let store = Store::init(MemDevice::new(8 << 20, 4096), &init, &writable_in(Some(power(0)))).unwrap();
    let (mut device, closed) = store.close();
    closed.unwrap();
    let mut expected = Vec::new();
    for round in 0..40 {
        let mut store = open(device, &writable_in(Some(power(round))), "next epoch");
        let id = match round {
            0 => store.create("l", 32 * BLOCK, false).unwrap(),
            _ => store.id("l"),
        };
        if round > 0 && power(round) == power(round - 1) {
            assert!(store.content("l") == expected, "round {round}: killed");
        } else if round > 0 {
            let found = store.content("l");
            let flushed = usize::try_from((round - 1) % 16 * BLOCK).unwrap();
            assert!(
                found[flushed..flushed + 4096] == expected[flushed..flushed + 4096],
                "round {round}: lost power"
            );
        }
        let seed = u8::try_from(round % 15).unwrap();
        store.write(id, round % 16 * BLOCK, pattern(BLOCK, seed)).unwrap();
        store.flush().unwrap();
        for block in 16..20 {
            store.write(id, (block + round % 12) * BLOCK, pattern(BLOCK, seed)).unwrap();
            store.unmap(id, 20 * BLOCK..21 * BLOCK).unwrap();
        }
        expected = store.content("l");
        device = killed(store);
    }
}

/// A store that was not closed, copied to a larger device elsewhere: what was durable is there, the tail is not.
#[test]
fn a_store_copied_to_another_device() {
    let left = with_tail(base(true), Some(SESSION));
    let mut copy = MemDevice::with_content(&left.content(), 512);
    copy.resize(5 << 20);
    let elsewhere = Session { boot_id: [3; 16], device_generation: 0 };
    assert_eq!(seen(copy.clone(), &writable_in(Some(elsewhere))), (true, false));
    let mut store = open(copy, &writable_in(Some(elsewhere)), "elsewhere");
    write(&mut store, "clone", BLOCK, BLOCK, 5);
    let expected = content(&mut store);
    let mut store = open(killed(store), &writable_in(Some(elsewhere)), "elsewhere");
    assert!(content(&mut store) == expected);
    // The original goes on by itself, its tail with it.
    assert_eq!(seen(left, &writable_in(Some(SESSION))), (true, true));
}
