use super::*;

const EIO: DeviceError = DeviceError::Io { errno: 5 };

fn disk(caching: Caching) -> SimDisk {
    SimDisk::new(1 << 20, 512, caching, 7)
}

fn write(offset: u64, byte: u8, sectors: usize) -> DeviceOp {
    DeviceOp::Write { offset: DeviceOffset(offset), buffer: Buffer::copy_of(&vec![byte; sectors * 512]) }
}

fn submit(disk: &SimDisk, id: u64, op: DeviceOp) {
    disk.clone().submit(OpId(id), op);
}

/// Lets everything complete that may, and says how each operation went, in the order of completion.
fn settle(disk: &SimDisk) -> Vec<(u64, Result<(), DeviceError>)> {
    let mut completions = Vec::new();
    let mut before = usize::MAX;
    while before != completions.len() {
        before = completions.len();
        disk.clone().wait(&mut completions);
    }
    completions.into_iter().map(|done| (done.id.0, done.result)).collect()
}

fn run(disk: &SimDisk, op: DeviceOp) -> Result<(), DeviceError> {
    submit(disk, 99, op);
    settle(disk)[0].1
}

/// The first bytes of the first sectors.
fn sectors(state: &DiskState) -> Vec<u8> {
    let first = |sector: u64| {
        let mut byte = [0];
        state.view().read(sector * 512, &mut byte);
        byte[0]
    };
    (0..4).map(first).collect()
}

fn crashed(disk: &SimDisk, cut: Cut, keep: impl FnMut(usize, u64) -> bool) -> Vec<u8> {
    sectors(&disk.state().crash(cut, keep).0)
}

#[test]
fn operations_complete_in_orders_that_the_seed_draws() {
    let order = |seed| {
        let disk = SimDisk::new(1 << 20, 512, Caching::Volatile, seed);
        (0..6).for_each(|id| submit(&disk, id, write(id * 512, 1, 1)));
        settle(&disk).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(order(3), order(3));
    let orders: std::collections::BTreeSet<_> = (0..20).map(order).collect();
    assert!(orders.len() > 10, "{orders:?}");
}

#[test]
fn a_poll_hands_out_what_was_granted() {
    let disk = disk(Caching::Volatile);
    disk.grant(1);
    (0..3).for_each(|id| submit(&disk, id, write(id * 512, 1, 1)));
    let mut completions = Vec::new();
    (0..3).for_each(|_| disk.clone().poll(&mut completions));
    assert_eq!((completions.len(), disk.outstanding()), (1, 2));
    disk.grant(5);
    (0..3).for_each(|_| disk.clone().poll(&mut completions));
    assert_eq!((completions.len(), disk.outstanding()), (3, 0));
}

#[test]
fn a_power_cut_takes_what_no_sync_covered() {
    let disk = disk(Caching::Volatile);
    run(&disk, write(0, 1, 2)).unwrap();
    run(&disk, DeviceOp::Sync).unwrap();
    run(&disk, write(512, 2, 2)).unwrap();
    submit(&disk, 1, write(1536, 3, 1));
    assert_eq!(crashed(&disk, Cut::PowerCut, |_, _| false), [1, 1, 0, 0]);
    assert_eq!(crashed(&disk, Cut::PowerCut, |_, _| true), [1, 2, 2, 3]);
    assert_eq!(crashed(&disk, Cut::PowerCut, |change, sector| (change, sector) == (0, 1)), [1, 1, 2, 0]);
    assert_eq!(crashed(&disk, Cut::Kill, |_, _| false), [1, 2, 2, 0]);
    assert_eq!(crashed(&disk, Cut::Kill, |_, _| true), [1, 2, 2, 3]);
}

#[test]
fn a_sync_covers_what_had_completed_when_it_was_submitted() {
    let disk = disk(Caching::Volatile);
    run(&disk, write(0, 1, 1)).unwrap();
    submit(&disk, 1, DeviceOp::Sync);
    disk.withhold(Withheld::Syncs);
    run(&disk, write(512, 2, 1)).unwrap();
    assert_eq!(disk.withheld(), 1);
    assert_eq!(crashed(&disk, Cut::PowerCut, |_, _| false), [0; 4], "the sync has not completed");
    disk.release();
    assert_eq!(settle(&disk), [(1, Ok(()))]);
    assert_eq!(crashed(&disk, Cut::PowerCut, |_, _| false), [1, 0, 0, 0]);
}

#[test]
fn the_cache_stays_volatile_when_only_the_process_dies() {
    let first = disk(Caching::Volatile);
    run(&first, write(0, 1, 1)).unwrap();
    submit(&first, 1, write(512, 2, 2));
    let (state, fate) = first.state().crash(Cut::Kill, |_, sector| sector == 1);
    assert_eq!((fate.torn, fate.reordered), (true, false));
    let second = SimDisk::resume(state, 1);
    assert_eq!(sectors(&second.state()), [1, 0, 2, 0]);
    assert_eq!(crashed(&second, Cut::PowerCut, |_, _| false), [0; 4]);
    run(&second, DeviceOp::Sync).unwrap();
    assert_eq!(crashed(&second, Cut::PowerCut, |_, _| false), [1, 0, 2, 0]);
}

#[test]
fn write_through_loses_nothing_that_completed() {
    let disk = disk(Caching::WriteThrough);
    run(&disk, write(0, 1, 2)).unwrap();
    submit(&disk, 1, write(1024, 2, 2));
    assert_eq!(crashed(&disk, Cut::PowerCut, |_, _| false), [1, 1, 0, 0]);
    assert_eq!(crashed(&disk, Cut::PowerCut, |_, sector| sector == 0), [1, 1, 2, 0]);
    let (state, _) = disk.state().crash(Cut::Kill, |_, _| true);
    assert_eq!(crashed(&SimDisk::resume(state, 1), Cut::PowerCut, |_, _| false), [1, 1, 2, 2]);
}

#[test]
fn later_writes_of_a_sector_hide_earlier_ones() {
    let disk = disk(Caching::Volatile);
    for byte in 1..=3 {
        run(&disk, write(0, byte, 1)).unwrap();
    }
    let kept = |mask: usize| crashed(&disk, Cut::PowerCut, |change, _| mask >> change & 1 == 1)[0];
    assert_eq!((0..8).map(kept).collect::<Vec<_>>(), [0, 1, 2, 2, 3, 3, 3, 3]);
    let fate = disk.state().crash(Cut::PowerCut, |change, _| change == 2).1;
    assert_eq!(fate, Fate { torn: false, reordered: true });
}

#[test]
fn a_discard_leaves_what_was_there_zeros_or_garbage() {
    let disk = disk(Caching::Volatile);
    run(&disk, write(0, 1, 4)).unwrap();
    run(&disk, DeviceOp::Sync).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        run(&disk, write(0, 1, 4)).unwrap();
        run(&disk, DeviceOp::Unmap { offset: DeviceOffset(0), len: 2048 }).unwrap();
        seen.extend(sectors(&disk.state()));
        assert_eq!(crashed(&disk, Cut::PowerCut, |_, _| false), [1; 4]);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 0xa5]);
}

#[test]
fn faults_strike_what_they_are_told_to() {
    let failing = |fault: Fault| {
        let disk = disk(Caching::Volatile);
        disk.inject(fault);
        let ops = [write(0, 1, 1), write(512, 2, 1), DeviceOp::Sync, write(1024, 3, 1)];
        let results = ops.map(|op| run(&disk, op).is_err());
        assert_eq!(disk.asked().struck, results.iter().filter(|failed| **failed).count() as u64);
        results
    };
    let fail = || Fault::new(Effect::Fail(EIO));
    let table = [
        (fail(), [true; 4]),
        (fail().after(1).times(1), [false, true, false, false]),
        (fail().on(OpKind::Sync), [false, false, true, false]),
        (fail().within(512..1100), [false, true, false, true]),
        (fail().on(OpKind::Write).after(2), [false, false, false, true]),
    ];
    for (fault, expected) in table {
        assert_eq!(failing(fault.clone()), expected, "{fault:?}");
    }
}

#[test]
fn a_failed_write_leaves_each_sector_old_or_new() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let disk = SimDisk::new(1 << 20, 512, Caching::Volatile, seed);
        disk.inject(Fault::new(Effect::Fail(EIO)));
        assert_eq!(run(&disk, write(0, 1, 2)), Err(EIO));
        seen.insert(sectors(&disk.state())[..2].to_vec());
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_failed_sync_may_take_the_cache_with_it() {
    let disk = disk(Caching::Volatile);
    run(&disk, write(0, 1, 1)).unwrap();
    submit(&disk, 1, DeviceOp::Sync);
    disk.inject(Fault::new(Effect::LoseCache).on(OpKind::Sync).times(1));
    submit(&disk, 2, DeviceOp::Sync);
    disk.withhold(Withheld::Syncs);
    run(&disk, write(512, 2, 1)).unwrap();
    disk.release();
    let results = settle(&disk);
    assert!(results.contains(&(1, Ok(()))) && results.contains(&(2, Err(EIO))));
    let left = sectors(&disk.state());
    assert_eq!(left[1], 2, "that was not the failed sync's to lose");
    assert_eq!(
        crashed(&disk, Cut::PowerCut, |_, _| false)[0],
        left[0],
        "the view shows no more than there is"
    );
}

#[test]
fn a_lost_write_leaves_what_was_there_unless_something_came_after() {
    let disk = disk(Caching::WriteThrough);
    run(&disk, write(0, 1, 3)).unwrap();
    disk.list_writes(1536);
    run(&disk, write(512, 2, 2)).unwrap();
    run(&disk, write(1024, 3, 1)).unwrap();
    run(&disk, write(1536, 4, 1)).unwrap();
    let written = disk.written();
    let offsets: Vec<u64> = written.iter().map(|write| write.offset).collect();
    assert_eq!(offsets, [512, 1024], "what lies behind is not listed");
    let mut state = disk.state();
    assert_eq!(state.lose(&written[0]).first(), Some(&(512..1024)));
    assert_eq!(sectors(&state), [1, 1, 3, 4]);
    assert!(state.lose(&written[0]).is_empty(), "there is nothing more to lose");
    assert!(!state.lose(&written[1]).is_empty());
    assert_eq!(sectors(&state), [1, 1, 2, 4]);
}

#[test]
fn a_spoilt_sector_is_unreadable_until_it_is_written() {
    let mut state = disk(Caching::WriteThrough).state();
    state.spoil(600);
    let disk = SimDisk::resume(state, 1);
    let read = |offset, sectors: usize| {
        let buffer = Buffer::zeroed(sectors * 512);
        run(&disk, DeviceOp::Read { offset: DeviceOffset(offset), buffer })
    };
    assert_eq!((read(0, 1), read(0, 2), read(512, 1), read(1024, 1)), (Ok(()), Err(EIO), Err(EIO), Ok(())));
    run(&disk, write(512, 1, 1)).unwrap();
    assert_eq!(read(0, 4), Ok(()));
}

#[test]
fn writes_come_late() {
    let disk = disk(Caching::Volatile);
    disk.inject(Fault::new(Effect::Delay { completions: 2 }).times(1));
    (0..3).for_each(|id| submit(&disk, id, write(id * 512, 3, 1)));
    assert_eq!(settle(&disk)[2].0, 0);
    submit(&disk, 5, write(3, 3, 1));
    submit(&disk, 6, write(1 << 20, 3, 1));
    let refused = settle(&disk).into_iter().filter(|(_, result)| result.is_err());
    assert_eq!(refused.count(), 2);
}

#[test]
fn what_hangs_waits_for_its_release_and_may_be_torn_until_then() {
    let disk = disk(Caching::Volatile);
    disk.inject(Fault::new(Effect::Hang).on(OpKind::Write).within(512..1024).times(1));
    submit(&disk, 1, write(512, 1, 1));
    submit(&disk, 2, write(512, 2, 1));
    assert_eq!(settle(&disk), [(2, Ok(()))]);
    assert_eq!((disk.withheld(), disk.outstanding()), (1, 1));
    assert!(!disk.state().uncertain(Cut::Kill).is_empty());
    disk.release();
    assert_eq!(settle(&disk), [(1, Ok(()))]);
}

#[test]
fn withheld_appends_wait_for_their_release() {
    let disk = disk(Caching::Volatile);
    disk.withhold(Withheld::Writes(512..1024));
    submit(&disk, 1, write(0, 1, 2));
    submit(&disk, 2, write(1024, 1, 1));
    assert_eq!(settle(&disk), [(2, Ok(()))]);
    assert_eq!((disk.withheld(), disk.outstanding()), (1, 1));
    disk.release();
    assert_eq!(settle(&disk), [(1, Ok(()))]);
}

#[test]
fn recording_keeps_the_disk_before_each_completion() {
    let disk = disk(Caching::Volatile);
    disk.record();
    run(&disk, write(0, 1, 1)).unwrap();
    run(&disk, write(512, 2, 1)).unwrap();
    let states = disk.recorded();
    assert_eq!(states.iter().map(sectors).collect::<Vec<_>>(), [[0; 4], [1, 0, 0, 0]]);
    assert!(disk.recorded().is_empty());
}
