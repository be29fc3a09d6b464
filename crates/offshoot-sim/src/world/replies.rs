//! What an answer tells the model.

use super::{Op, Request, World};
use crate::check::versions;
use crate::model::{Change, Ended, Number, Observer, Time};
use crate::violation::{Promise, Violation};
use offshoot_block::Buffer;
use offshoot_store::{Error, ErrorKind, Reply, Ticket};
use std::ops::Range;

impl World {
    pub(super) fn answered(&mut self, ticket: Ticket, result: Result<Reply, Error>) -> Result<(), Violation> {
        let Some(mut request) = self.requests.remove(&ticket) else {
            return Err(Violation::new(Promise::Service, format!("nobody asked for the answer {result:?}")));
        };
        let id = request.id;
        match &result {
            Ok(_) => self.note(format!("{id}: done")),
            Err(error) => self.note(format!("{id}: {error}")),
        }
        if let Err(error) = &result {
            self.may_fail(&request, error)?;
        }
        if result.is_ok()
            && let Some(verb) = request.rest.pop()
        {
            self.requests.insert(self.store.start(verb), request);
            return Ok(());
        }
        let Request { op, since, .. } = request;
        match op {
            Op::Write { lvol, cells, fua } | Op::Zero { lvol, cells, fua, .. } => {
                let how = match result {
                    Ok(_) if fua => Ended::Durable,
                    Ok(_) => Ended::Done,
                    Err(_) => Ended::Unsure,
                };
                self.model.end(lvol, cells, id, how);
            }
            Op::Unmap { lvol, cells, .. } => self.model.end(lvol, cells, id, Ended::Unsure),
            Op::Read { lvol, cells } => {
                if let Ok(Reply::Buffer(buffer)) = result {
                    self.read_done(lvol, &cells, &buffer, since)?;
                }
            }
            Op::Flush => {
                if result.is_ok() {
                    let reader = self.oldest_reader();
                    self.model.flush(since, reader);
                }
            }
            Op::Seal => {}
            Op::Grow => self.model.grown |= result.is_ok(),
            Op::GrowMd { .. } if result.is_ok() => {
                self.model.grown = true;
                self.model.md_pages = self.store.state().layout.md_len;
            }
            Op::GrowMd { .. } => {}
            Op::Verb(change) => match result {
                Ok(_) => self.model.perform(&change, since),
                // When the device has failed the store, the records may be on it all the same.
                Err(_) if self.has_failed() => self.unsure.push((change, since)),
                // It goes step by step, and some had been taken.
                Err(_) if self.is_folded(&change) => self.model.perform(&change, since),
                Err(_) => {}
            },
        }
        Ok(())
    }

    fn read_done(
        &mut self,
        number: Number,
        range: &Range<usize>,
        buffer: &Buffer,
        since: Time,
    ) -> Result<(), Violation> {
        // What a shrinking lvol reads meanwhile is its own affair.
        let resizing = |change: &Change| matches!(change, Change::Resize { lvol, .. } if *lvol == number);
        let Some(lvol) = self.model.lvol(number) else { return Ok(()) };
        if lvol.resized >= since || self.verbs().any(resizing) {
            return Ok(());
        }
        let observer = if self.lossy { Observer::SinceLoss(since) } else { Observer::Since(since) };
        let found = versions(lvol, range.start, buffer.as_slice(), observer)
            .map_err(|violation| violation.during("a read"))?;
        // Who has been reading for longer may yet see what was there before. Once the device has failed, what a failed write
        // has left can be read and still be lost, with the record of what it was written to.
        let is_oldest = self.oldest_reader().is_none_or(|reader| since <= reader);
        if !self.lossy && self.error.is_none() && is_oldest {
            self.model.settle(number, range.start, &found, since);
        }
        Ok(())
    }

    /// Whether a snapshot that was to go into another lvol has gone.
    fn is_folded(&self, change: &Change) -> bool {
        matches!(change, Change::Merge { snapshot, .. } if self.blob(*snapshot).is_none())
    }

    /// Since when the oldest of those has been looking who may yet see what is hidden from others.
    fn oldest_reader(&self) -> Option<Time> {
        let reads = self.requests.values().filter(|request| match &request.op {
            Op::Read { .. } => true,
            Op::Verb(change) => matches!(change, Change::Snapshot { .. }),
            _ => false,
        });
        reads.map(|request| request.since).min()
    }

    /// Whether there is a reason for a request to fail.
    fn may_fail(&self, request: &Request, error: &Error) -> Result<(), Violation> {
        let reason = match error.kind() {
            ErrorKind::Io => self.disk.asked().struck > 0 || self.below.asked().struck > 0,
            ErrorKind::NoSpace => {
                let lvol = request.op.lvol().and_then(|lvol| self.model.lvol(lvol));
                let is_kept = lvol.is_some_and(|lvol| lvol.reserved);
                let may_lack = !matches!(request.op, Op::Read { .. } | Op::Flush | Op::Grow) && !is_kept;
                may_lack || self.disk.asked().struck > 0
            }
            // The lvol has gone, or has shrunk, between.
            ErrorKind::NotFound => !matches!(request.op, Op::Flush | Op::Seal | Op::Grow | Op::GrowMd { .. }),
            ErrorKind::Invalid => matches!(&request.op, Op::Write { lvol, .. } | Op::Read { lvol, .. }
                    | Op::Zero { lvol, .. } | Op::Unmap { lvol, .. } if self.was_resized(*lvol, request.since)),
            _ => false,
        };
        if reason {
            return Ok(());
        }
        let what = format!("{:?} failed for no reason: {error}", request.op);
        let promise = if self.disk.asked().struck > 0 { Promise::D7 } else { Promise::Service };
        Err(Violation::new(promise, what))
    }

    fn was_resized(&self, number: Number, since: Time) -> bool {
        let resizing = |change: &Change| matches!(change, Change::Resize { lvol, .. } if *lvol == number);
        let resized = self.model.lvol(number).is_some_and(|lvol| lvol.resized >= since);
        resized || self.verbs().any(resizing)
    }
}
