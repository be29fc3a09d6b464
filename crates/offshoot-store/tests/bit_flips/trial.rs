//! One flipped bit: what the store makes of it.

use crate::device::Overlay;
use crate::lvols::{SESSION, named, writable};
use crate::subject::{Contents, Region, Subject};
use offshoot_block::Buffer;
use offshoot_format::BlobId;
use offshoot_store::{
    CreateOptions, ErrorKind, Finding, Found, LoadError, OpenOptions, ReadOnlyCause, Store, Verb,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BLOCK: usize = 4096;

/// What becomes of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Something is said about it, now and after a session.
    Detected,
    /// Something was said about it, and after a session everything is right.
    Repaired,
    /// Everything is right, and there is nothing to say.
    Harmless,
}

/// What can be read of an lvol.
struct Seen {
    lvol: BlobId,
    bytes: Buffer,
    /// Blocks that cannot be read; empty where all can.
    refused: Vec<bool>,
}

/// What can be seen of a flip before anything is changed: kinds of findings, the version of the contents, and which
/// blocks are refused.
type Outcome = (Vec<String>, usize, Refused);

/// The blocks of each lvol that cannot be read.
type Refused = Vec<(BlobId, Vec<bool>)>;

/// What has become of each outcome in a region so far.
#[derive(Debug)]
pub(crate) struct Known {
    verdicts: BTreeMap<Outcome, Verdict>,
    /// Bytes from one session to the next, where the outcome is a known one.
    stride: usize,
}

impl Known {
    /// Nothing yet. A session follows on each new outcome, and on one flip in `stride` in any case.
    pub(crate) fn new(stride: usize) -> Self {
        Self { verdicts: BTreeMap::new(), stride }
    }
}

/// Flips a bit, looks, changes something, closes and looks again.
pub(crate) fn flip(
    subject: &Subject,
    region: &Region,
    (at, bit): (usize, u8),
    known: &mut Known,
) -> Result<Verdict, String> {
    let trial = || Trial { subject, region }.run(at, bit, known);
    let outcome = catch_unwind(AssertUnwindSafe(trial)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    outcome.map_err(|what| format!("{}, {} at {at:#x}, bit {bit}: {what}", subject.name, region.name))
}

/// What a session has left.
struct Session {
    device: Overlay,
    /// What must be read now.
    expected: Contents,
    /// The lvol that was there before and was written to.
    written_to: BlobId,
}

struct Trial<'a> {
    subject: &'a Subject,
    region: &'a Region,
}

impl Trial<'_> {
    fn run(&self, at: usize, bit: u8, known: &mut Known) -> Result<Verdict, String> {
        let mut device = self.subject.device.clone();
        device.flip(at, bit);
        let store = match Store::open(device.clone(), Vec::new(), &OpenOptions::read_only(Some(SESSION))) {
            Ok(store) => store,
            Err(error) => return self.refused(device, &error),
        };
        let first = store.findings().to_vec();
        if first.iter().any(|finding| matches!(finding.what, Found::Journal(_))) {
            return self.older(store, device);
        }
        let (version, refused) = self.check(store, &self.subject.versions)?;
        if version < self.subject.covered && first.is_empty() {
            return Err(format!("version {version} of the contents, and nothing is said about it"));
        }
        let outcome = (first.iter().map(kind).collect(), version, refused);
        if let Some(verdict) = known.verdicts.get(&outcome).filter(|_| !at.is_multiple_of(known.stride)) {
            return Ok(*verdict);
        }
        let verdict = self.after_a_session(device, &first, version)?;
        known.verdicts.insert(outcome, verdict);
        Ok(verdict)
    }

    fn after_a_session(&self, device: Overlay, first: &[Finding], version: usize) -> Result<Verdict, String> {
        let Session { device, expected, written_to } = self.change(device, first, version)?;
        self.check_clusters(&device, written_to)?;

        let store = Store::open(device, Vec::new(), &OpenOptions::read_only(Some(SESSION)))
            .map_err(|error| format!("not opened again: {error}"))?;
        let last = store.findings().to_vec();
        self.check(store, std::slice::from_ref(&expected))?;
        match (first.is_empty(), last.is_empty()) {
            (true, true) => Ok(Verdict::Harmless),
            (false, true) => Ok(Verdict::Repaired),
            (false, false) => Ok(Verdict::Detected),
            (true, false) => Err(format!("found only after a session: {}", text(&last))),
        }
    }

    /// Not opened for looking: not opened for writing either.
    fn refused(&self, device: Overlay, error: &LoadError) -> Result<Verdict, String> {
        if !self.region.is_vital {
            return Err(format!("the store is refused: {error}"));
        }
        match Store::open(device, Vec::new(), &writable()) {
            Ok(_) => Err(format!("opened for writing, but not for looking: {error}")),
            Err(_) => Ok(Verdict::Detected),
        }
    }

    /// The journal lacks what a barrier made durable. The store says so and takes no changes; each lvol reads as it did
    /// at some time.
    fn older(&self, mut store: Store<Overlay>, device: Overlay) -> Result<Verdict, String> {
        let everything = Trial { subject: self.subject, region: &self.region.describing_all(self.subject) };
        let seen = everything.look(&mut store)?;
        for lvol in seen.chunks(1) {
            if !self.subject.versions.iter().any(|version| everything.is_version(lvol, version)) {
                return Err(format!("what is read never was: {}", differences(lvol, &self.subject.versions)));
            }
        }
        let before: Vec<_> = device.written().map(|(page, now, _)| (page, now.to_vec())).collect();
        let store = Store::open(device, Vec::new(), &writable())
            .map_err(|error| format!("not opened for writing: {error}"))?;
        if store.engine().read_only_cause() != Some(ReadOnlyCause::JournalDamage) {
            return Err("writable, although the journal is damaged".into());
        }
        let (device, closed) = store.close();
        closed.map_err(|error| format!("close: {error}"))?;
        let is_same = device.written().map(|(page, now, _)| (page, now.to_vec())).eq(before);
        if is_same { Ok(Verdict::Detected) } else { Err("something was written".into()) }
    }

    /// Holds what a store reads against what it may read. Hands back the number of the newest version that fits, and
    /// which blocks are refused.
    fn check(&self, mut store: Store<Overlay>, versions: &[Contents]) -> Result<(usize, Refused), String> {
        let seen = self.look(&mut store)?;
        match versions.iter().rposition(|version| self.is_version(&seen, version)) {
            Some(number) => Ok((number, seen.into_iter().map(|seen| (seen.lvol, seen.refused)).collect())),
            None => {
                let (findings, what) = (text(store.findings()), differences(&seen, versions));
                Err(format!("what is read is nothing that was written ({findings}): {what}"))
            }
        }
    }

    fn look(&self, store: &mut Store<Overlay>) -> Result<Vec<Seen>, String> {
        let lvols: Vec<_> = store
            .state()
            .lvols()
            .map(|lvol| (lvol.id, store.state().bytes(lvol), lvol.damage.is_some()))
            .collect();
        let mut seen = Vec::new();
        for (lvol, len, is_damaged) in lvols {
            let len = usize::try_from(len).unwrap();
            let (mut bytes, mut refused);
            match store.read(lvol, 0, len) {
                Ok(read) => (bytes, refused) = (read, Vec::new()),
                Err(error) if !is_damaged => return Err(format!("lvol {lvol} is sound, but: {error}")),
                Err(_) => {
                    (bytes, refused) = (Buffer::zeroed(len), Vec::new());
                    for block in bytes.as_mut_slice().chunks_mut(BLOCK) {
                        let read = store.read(lvol, (refused.len() * BLOCK) as u64, BLOCK).ok();
                        refused.push(read.is_none());
                        read.iter().for_each(|read| block.copy_from_slice(read.as_slice()));
                    }
                }
            }
            seen.push(Seen { lvol, bytes, refused });
        }
        Ok(seen)
    }

    /// Whether all that is read is of one version, and all of it is there but for what the damage is about.
    fn is_version(&self, seen: &[Seen], version: &Contents) -> bool {
        let fits = |Seen { lvol, bytes, refused }: &Seen| {
            let Some(expected) = version.get(lvol) else { return false };
            if refused.is_empty() && **expected == *bytes.as_slice() {
                return true;
            }
            let mut blocks = bytes.as_slice().chunks(BLOCK).zip(expected.chunks(BLOCK)).enumerate();
            self.region.describes.contains(lvol)
                && blocks.all(|(number, (read, block))| refused.get(number) == Some(&true) || read == block)
        };
        let is_there =
            |id: &BlobId| self.region.describes.contains(id) || seen.iter().any(|seen| seen.lvol == *id);
        seen.iter().all(fits) && version.keys().all(is_there)
    }

    /// A session: writes over what is there, writes where nothing is, makes an lvol. Hands back what must be read
    /// afterwards, and who was written to.
    fn change(&self, device: Overlay, first: &[Finding], version: usize) -> Result<Session, String> {
        let mut expected = self.subject.versions[version].clone();
        let mut store = Store::open(device, Vec::new(), &writable())
            .map_err(|error| format!("not opened for writing: {error}"))?;
        let excused = |what: &str, kind: ErrorKind| {
            let is_short = matches!(kind, ErrorKind::NoSpace | ErrorKind::ReadOnly);
            if is_short && !first.is_empty() { Ok(()) } else { Err(format!("{what}: {kind:?}")) }
        };
        let sound = store.state().lvols().filter(|lvol| lvol.damage.is_none() && !lvol.is_read_only());
        let target = sound.map(|lvol| lvol.id).find(|id| !self.region.describes.contains(id));
        let target = target.ok_or("no lvol is left to write to")?;
        let len = expected.get(&target).map_or(0, |content| content.len());
        for at in [0, len - BLOCK] {
            let data = vec![0xa5; BLOCK];
            match store.write(target, at as u64, Buffer::copy_of(&data)) {
                Ok(_) => {
                    let content = expected.get_mut(&target).ok_or("an lvol that never was")?;
                    let mut bytes = content.to_vec();
                    bytes[at..at + BLOCK].copy_from_slice(&data);
                    *content = bytes.into();
                }
                Err(error) => excused("write", error.kind())?,
            }
        }
        let size_bytes = store.state().units.cluster;
        match store.execute(Verb::Create {
            identity: named("made"),
            size_bytes,
            options: CreateOptions::provisioned(true),
        }) {
            Ok(made) => {
                let zeros = vec![0; usize::try_from(size_bytes).unwrap()];
                if expected.insert(made[0], zeros.into()).is_some() {
                    return Err(format!("the new lvol has the id of another, {}", made[0]));
                }
            }
            Err(error) => excused("create", error.kind())?,
        }
        let (device, closed) = store.close();
        closed.map_err(|error| format!("close: {error}"))?;
        Ok(Session { device, expected, written_to: target })
    }

    /// No cluster that another lvol may own was written to, damaged or not.
    fn check_clusters(&self, device: &Overlay, written_to: BlobId) -> Result<(), String> {
        for (page, now, before) in device.written() {
            let cluster = (page * BLOCK) as u64 / self.subject.cluster_size;
            if let Some(owner) = self.subject.owned.get(&cluster).filter(|owner| **owner != written_to)
                && now != before
            {
                return Err(format!("cluster {cluster} of lvol {owner} was written over"));
            }
        }
        Ok(())
    }
}

/// What kind of finding this is, and of which lvol: without its numbers.
fn kind(finding: &Finding) -> String {
    let what = format!("{:?}", finding.what);
    let end = what.find(['(', ' ']).unwrap_or(what.len());
    format!("{} {:?}", &what[..end], finding.lvol)
}

fn text(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(|finding| finding.what.to_string()).collect();
    lines.join("; ")
}

/// Where what is read differs from the newest version.
fn differences(seen: &[Seen], versions: &[Contents]) -> String {
    let Some(version) = versions.last() else { return String::new() };
    let mut lines = Vec::new();
    for (id, expected) in version {
        let Some(Seen { bytes, refused, .. }) = seen.iter().find(|seen| seen.lvol == *id) else {
            lines.push(format!("lvol {id} is not there"));
            continue;
        };
        if bytes.len() != expected.len() {
            lines.push(format!("lvol {id} has {} bytes", bytes.len()));
        }
        let blocks = bytes.as_slice().chunks(BLOCK).zip(expected.chunks(BLOCK));
        for (number, (read, block)) in blocks.enumerate().filter(|(_, (read, block))| read != block) {
            let is_refused = refused.get(number) == Some(&true);
            let what =
                if is_refused { "refused".into() } else { format!("{:#x}, not {:#x}", read[0], block[0]) };
            lines.push(format!("lvol {id}, block {number}: {what}"));
        }
    }
    let new = seen.iter().filter(|seen| !version.contains_key(&seen.lvol));
    lines.extend(new.map(|seen| format!("lvol {} is new", seen.lvol)));
    lines.join(", ")
}
