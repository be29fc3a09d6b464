//! Which verbs may run beside each other.
//!
//! A plan has to hold until its records are applied. So a verb runs alone, but for those that only make an lvol: what
//! such a verb takes is held for it, and nothing that another one of them does can spoil its plan, unless both give
//! the same name. Many of them share one frame of the journal.

use crate::engine::{TaskId, Ticket};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};

/// Verbs that have been planned and are not applied yet, and those that wait for their turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct VerbQueue {
    running: usize,
    /// Whether the one that runs must stay alone.
    alone: bool,
    /// Names that those which run are about to give.
    names: BTreeSet<String>,
    /// Those whose records are on their way.
    pub(super) committing: usize,
    /// In the order in which they were asked for.
    waiting: BTreeMap<Ticket, TaskId>,
    /// Fills that look at their cluster again once a verb whose records are on their way is done.
    fills: Vec<TaskId>,
}

impl VerbQueue {
    pub(super) fn wait(&mut self, ticket: Ticket, task: TaskId) {
        self.waiting.insert(ticket, task);
    }

    /// The verb whose turn is next.
    pub(super) fn next(&self) -> Option<TaskId> {
        self.waiting.first_key_value().map(|(_, task)| *task)
    }

    /// Begins the verb whose turn is next, if it may run now. `makes` is the name that it gives where it may run beside
    /// others.
    pub(super) fn begin_next(&mut self, makes: Option<&str>) -> bool {
        let beside = makes.is_some_and(|name| !self.alone && !self.names.contains(name));
        if self.running > 0 && !beside {
            return false;
        }
        self.waiting.pop_first();
        self.running += 1;
        self.alone = makes.is_none();
        self.names.extend(makes.map(ToString::to_string));
        true
    }

    /// A verb that began is done, or waits for another turn.
    pub(super) fn end(&mut self, makes: Option<&str>) {
        self.running -= 1;
        if let Some(name) = makes {
            self.names.remove(name);
        }
    }

    /// Lets a fill wait until a verb is done.
    pub(super) fn let_fill_wait(&mut self, fill: TaskId) {
        self.fills.push(fill);
    }

    /// The fills that waited for a verb.
    pub(super) fn take_fills(&mut self) -> Vec<TaskId> {
        core::mem::take(&mut self.fills)
    }

    /// Whether a verb has begun that is not done.
    pub(super) fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Whether no other verb runs.
    pub(super) fn is_single(&self) -> bool {
        self.running == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets wait a verb for each name, or one that must be alone; begins as many as may run.
    fn begin(queue: &mut VerbQueue, tickets: core::ops::Range<u64>, names: &[Option<&str>]) -> usize {
        for (ticket, number) in tickets.zip(0..) {
            queue.wait(Ticket(ticket), TaskId(number));
        }
        names.iter().take_while(|name| queue.next().is_some() && queue.begin_next(**name)).count()
    }

    #[test]
    fn only_those_that_make_run_together() {
        let cases: [(&[Option<&str>], usize); 5] = [
            (&[Some("a"), Some("b"), Some("c")], 3),
            (&[Some("a"), Some("b"), Some("a")], 2),
            (&[Some("a"), None, Some("b")], 1),
            (&[None, Some("a")], 1),
            (&[None, None], 1),
        ];
        for (names, together) in cases {
            let mut queue = VerbQueue::default();
            assert_eq!(begin(&mut queue, 0..names.len() as u64, names), together, "{names:?}");
            names[..together].iter().for_each(|name| queue.end(*name));
            assert_eq!(
                names.get(together).map(|name| queue.begin_next(*name)),
                names.get(together).map(|_| true)
            );
        }
    }

    #[test]
    fn whoever_waits_again_keeps_its_place() {
        let mut queue = VerbQueue::default();
        assert_eq!(begin(&mut queue, 0..3, &[Some("a"), Some("b")]), 2);
        assert!(!queue.is_single());
        queue.end(Some("b"));
        queue.wait(Ticket(1), TaskId(1));
        assert_eq!(queue.next(), Some(TaskId(1)), "before the third");
        assert!(!queue.begin_next(None) && queue.is_single());
    }
}
