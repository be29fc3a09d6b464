//! A device that keeps every operation that changes it, and what it held after any number of them.
#![allow(dead_code, reason = "shared by several test programs")]

use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::{LoggedOp, MemDevice, OpKind};
use std::cell::RefCell;
use std::rc::Rc;

/// What a device held at first, and what changed it since, in order.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    start: MemDevice,
    ops: Vec<DeviceOp>,
}

/// A device that a store owns and its test shares.
#[derive(Clone, Debug)]
pub(crate) struct Taped(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    device: MemDevice,
    tape: Tape,
}

impl Tape {
    /// Operations on it.
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    /// What the device held after so many operations.
    pub(crate) fn device_after(&self, ops: usize) -> MemDevice {
        let mut device = self.start.clone();
        for (op, id) in self.ops[..ops].iter().zip(0..) {
            device.submit(OpId(id), op.clone());
        }
        device.poll(&mut Vec::new());
        device.reset_stats();
        device
    }

    /// The operation behind which a cut lies.
    pub(crate) fn last_before(&self, cut: usize) -> Option<LoggedOp> {
        cut.checked_sub(1).map(|last| LoggedOp::of(&self.ops[last]))
    }
}

impl Taped {
    pub(crate) fn new(device: MemDevice) -> Self {
        let tape = Tape { start: device.clone(), ops: Vec::new() };
        Self(Rc::new(RefCell::new(Inner { device, tape })))
    }

    pub(crate) fn tape(&self) -> Tape {
        self.0.borrow().tape.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().tape.len()
    }
}

impl From<MemDevice> for Taped {
    fn from(device: MemDevice) -> Self {
        Self::new(device)
    }
}

impl BlockDevice for Taped {
    fn geometry(&self) -> DeviceGeometry {
        self.0.borrow().device.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let mut inner = self.0.borrow_mut();
        if OpKind::of(&op).modifies() {
            let kept = match &op {
                DeviceOp::Write { offset, buffer } => {
                    DeviceOp::Write { offset: *offset, buffer: Buffer::copy_of(buffer.as_slice()) }
                }
                op => op.clone(),
            };
            inner.tape.ops.push(kept);
        }
        inner.device.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.0.borrow_mut().device.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.0.borrow_mut().device.wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.0.borrow().device.outstanding()
    }
}
