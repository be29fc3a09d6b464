//! What may be seen after which trace.

use super::super::pattern::Stamp;
use super::super::trace::parse;
use super::*;

/// Volumes of a few sectors each, by what they hold: `None` for zeros, else the write, of volume 0.
struct Sketch(Vec<(&'static str, Vec<Option<OpNumber>>)>);

impl Shown for Sketch {
    fn volumes(&self) -> Vec<(String, u64)> {
        let one = |(name, sectors): &(&str, Vec<_>)| ((*name).to_owned(), sectors.len() as u64 * 512);
        self.0.iter().map(one).collect()
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        let (_, sectors) = self.0.iter().find(|(known, _)| *known == name).ok_or("unknown")?;
        assert_eq!((offset, len), (0, sectors.len() * 512));
        let mut bytes = vec![0; len];
        for ((sector, op), at) in bytes.chunks_mut(512).zip(sectors).zip(0..) {
            if let Some(op) = op {
                Stamp { op: *op, volume: 0, sector: at }.fill(sector);
            }
        }
        Ok(bytes)
    }
}

/// Follows a trace past its marks up to `passed` of them, and says what is wrong with v0 holding `sectors`.
fn check(trace: &str, passed: u32, sectors: &[Option<OpNumber>]) -> Vec<String> {
    check_all(trace, passed, vec![("v0", sectors.to_vec())])
}

fn check_all(trace: &str, passed: u32, shown: Vec<(&'static str, Vec<Option<OpNumber>>)>) -> Vec<String> {
    let events = parse(trace.replace("; ", "\n").as_bytes()).unwrap();
    let mut model = Model::new(&events).unwrap();
    for mark in 1..=passed {
        model.pass(&mark.to_string()).unwrap();
    }
    model.check(&mut Sketch(shown))
}

const MADE: &str = "create 0 2; done; mark 1; ready; ";

#[test]
fn what_was_flushed_stays_and_what_came_later_may_be_there() {
    // Sector 0 is written, flushed, and written again.
    let trace = format!("{MADE}write 1 0 0 1 0; ack 1; flush 2 0; ack 2; write 3 0 0 1 0; ack 3; mark 2");
    for (passed, allowed) in [(1, [true, true, true]), (2, [false, true, true])] {
        let seen = [None, Some(1), Some(3)];
        for (value, allowed) in seen.into_iter().zip(allowed) {
            assert_eq!(check(&trace, passed, &[value, None]).is_empty(), allowed, "{passed} {value:?}");
        }
        assert_eq!(check(&trace, passed, &[Some(1), Some(1)]).len(), 1);
    }
}

#[test]
fn a_flush_covers_what_was_acknowledged_when_it_was_sent() {
    let trace = format!("{MADE}write 1 0 0 1 0; flush 2 0; ack 1; ack 2; mark 2");
    assert_eq!(check(&trace, 2, &[None, None]), [""; 0]);
    let trace = format!("{MADE}write 1 0 0 1 0; ack 1; flush 2 0; mark 2; ack 2; mark 3");
    assert_eq!(check(&trace, 2, &[None, None]), [""; 0]);
    assert_eq!(check(&trace, 3, &[None, None]), ["v0: sector 0 holds Zeros, and may hold the data of 1"]);
}

#[test]
fn fua_covers_itself_alone() {
    let trace = format!("{MADE}write 1 0 0 1 0; ack 1; write 2 0 1 1 1; ack 2; mark 2");
    assert_eq!(check(&trace, 2, &[None, Some(2)]), [""; 0]);
    assert_eq!(check(&trace, 2, &[Some(1), None]).len(), 1);
}

#[test]
fn zeroing_and_trimming_leave_zeros() {
    for verb in ["zero", "trim"] {
        let trace = format!("{MADE}write 1 0 0 1 1; ack 1; {verb} 2 0 0 1 0; ack 2; mark 2; closed; mark 3");
        assert_eq!(check(&trace, 2, &[None, None]), [""; 0]);
        assert_eq!(check(&trace, 2, &[Some(1), None]), [""; 0]);
        assert_eq!(check(&trace, 3, &[Some(1), None]).len(), 1, "{verb}");
        assert_eq!(check(&trace, 3, &[None, None]), [""; 0]);
    }
}

#[test]
fn a_kill_leaves_what_was_under_way_open_and_the_next_opening_makes_the_rest_durable() {
    let trace = format!("{MADE}write 1 0 0 1 0; ack 1; write 2 0 1 1 0; killed; ready; mark 2");
    assert_eq!(check(&trace, 1, &[None, None]), [""; 0]);
    for second in [None, Some(2)] {
        assert_eq!(check(&trace, 2, &[Some(1), second]), [""; 0]);
    }
    assert_eq!(check(&trace, 2, &[None, None]).len(), 1);
}

#[test]
fn a_verb_is_done_or_not_until_its_mark() {
    let trace = format!(
        "{MADE}write 1 0 0 1 1; ack 1; closed; mark 2; snapshot 0 1; done; mark 3; \
        ready; write 4 0 0 1 1; ack 4; closed; mark 4; remove 1; done; mark 5"
    );
    let v0 = |op| ("v0", vec![Some(op), None]);
    let v1 = ("v1", vec![Some(1), None]);
    assert_eq!(check_all(&trace, 2, vec![v0(1)]), [""; 0]);
    assert_eq!(check_all(&trace, 2, vec![v0(1), v1.clone()]), [""; 0]);
    assert_eq!(check_all(&trace, 3, vec![v0(1)]), ["v1 is gone"]);
    assert_eq!(check_all(&trace, 3, vec![v0(4), v1.clone()]), [""; 0]);
    assert_eq!(check_all(&trace, 3, vec![v0(4), ("v1", vec![Some(4), None])]).len(), 1);
    assert_eq!(check_all(&trace, 4, vec![v0(4)]), [""; 0]);
    assert_eq!(check_all(&trace, 5, vec![v0(4), v1]), ["v1 must not be there"]);
    assert_eq!(check_all(&trace, 5, vec![("v0", vec![Some(4)])]), ["v0 has 512 bytes instead of 1024"]);
}

#[test]
fn traces_that_contradict_themselves_are_refused() {
    for bad in [
        "write 1 0 0 1 0",
        "create 0 2; create 1 2",
        "create 0 2; mark 1",
        "create 0 2; done; ack 1",
        "create 0 2; done; write 1 0 2 1 0",
        "create 0 2; done; write 1 0 0 1 0; snapshot 0 1",
        "create 0 2; done; write 0 0 0 1 0",
        "create 0 9999999999",
    ] {
        let events = parse(bad.replace("; ", "\n").as_bytes()).unwrap();
        assert!(Model::new(&events).is_err(), "{bad}");
    }
    let events = parse(b"mark 1\nmark 2").unwrap();
    assert!(Model::new(&events).unwrap().pass("2").is_err());
}
