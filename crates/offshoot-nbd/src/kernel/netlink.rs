//! Messages of generic netlink: what a call to the kernel's NBD client looks like, and its answer.
//!
//! Mirrors `struct nlmsghdr`, `struct genlmsghdr` and `struct nlattr` of `linux/netlink.h` and `linux/genetlink.h`. Everything is
//! in the byte order of the machine.
#![expect(clippy::host_endian_bytes, reason = "messages to our own kernel")]

/// Bytes of `struct nlmsghdr`.
const MESSAGE_HEAD_BYTES: usize = 16;

/// Bytes of `struct genlmsghdr`.
const GENERIC_HEAD_BYTES: usize = 4;

/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEAD_BYTES: usize = 4;

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;

/// `NLMSG_ERROR`: the last answer to a request, with its error or zero.
const ERROR: u16 = 2;

/// `NLA_TYPE_MASK`: an attribute's type without the flags.
const TYPE_MASK: u16 = 0x3fff;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// One without attributes for the command of a family.
    pub(super) fn new(family: u16, sequence: u32, command: u8, version: u8) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(family.to_ne_bytes());
        bytes.extend(REQUEST.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The port of the sender, which the kernel fills in.
        bytes.extend([0; 4]);
        bytes.extend([command, version, 0, 0]);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let len = u16::try_from(ATTRIBUTE_HEAD_BYTES + payload.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Adds a number of 32 bits.
    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a number of 64 bits.
    pub(super) fn u64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a text, with the zero behind it that some readers expect.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// Adds an attribute that holds others. (`NLA_F_NESTED` is not set: kernels of the NBD client's age do not ask for it.)
    pub(super) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        inside(&mut inner);
        self.attribute(kind, &inner.0);
    }

    /// What to send.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// One answer of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// Attributes that belong to the request.
    Attributes(Attributes<'a>),
    /// Nothing more comes. The number of the error, or zero.
    End(i32),
}

/// The answers to a request among those of one datagram. Stops at what makes no sense.
pub(super) fn answers(datagram: &[u8], sequence: u32) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let len = usize::try_from(u32_at(rest, 0)?).ok()?;
            let message = rest.get(..len).filter(|_| len >= MESSAGE_HEAD_BYTES)?;
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            if u32_at(message, 8)? != sequence {
                continue;
            }
            let payload = &message[MESSAGE_HEAD_BYTES..];
            if u16_at(message, 4)? == ERROR {
                let error = u32_at(payload, 0)?.cast_signed();
                return Some(Answer::End(error.checked_neg().unwrap_or(i32::MAX)));
            }
            return Some(Answer::Attributes(Attributes(payload.get(GENERIC_HEAD_BYTES..)?)));
        }
    })
}

/// The attributes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of a type.
    pub(super) fn find(self, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.0;
        loop {
            let (len, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
            let payload = rest.get(ATTRIBUTE_HEAD_BYTES..len)?;
            if kind & TYPE_MASK == wanted {
                return Some(payload);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
    }

    /// A number of 16 bits.
    pub(super) fn u16(self, wanted: u16) -> Option<u16> {
        u16_at(self.find(wanted)?, 0)
    }

    /// A number of 32 bits.
    pub(super) fn u32(self, wanted: u16) -> Option<u32> {
        u32_at(self.find(wanted)?, 0)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Answers look like requests, but for the type of the last.
    fn end(sequence: u32, error: i32) -> Vec<u8> {
        let mut message = Message::new(ERROR, sequence, 0, 0);
        message.0.truncate(MESSAGE_HEAD_BYTES);
        message.0.extend(error.to_ne_bytes());
        message.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(30, 7, 1, 1);
        message.u32(1, 5);
        message.text(10, "a text");
        message.nested(7, |sockets| sockets.nested(1, |item| item.u32(1, 3)));
        message.u64(2, 1 << 40);
        let datagram = [end(6, 0), message.finish(), end(7, -16)].concat();
        let answers: Vec<_> = answers(&datagram, 7).collect();
        let [Answer::Attributes(attributes), Answer::End(16)] = answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!((attributes.u32(1), attributes.u16(1)), (Some(5), Some(5)));
        assert_eq!(attributes.find(10), Some(&b"a text\0"[..]));
        let item = attributes.find(7).and_then(|sockets| Attributes(sockets).find(1)).unwrap();
        assert_eq!(Attributes(item).u32(1), Some(3));
        assert_eq!(attributes.find(2), Some(&(1_u64 << 40).to_ne_bytes()[..]));
        assert_eq!(attributes.find(3), None);
    }

    proptest! {
        #[test]
        fn random_answers_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), sequence in 0_u32..2) {
            for answer in answers(&bytes, sequence) {
                if let Answer::Attributes(attributes) = answer {
                    let _ = (attributes.u32(1), attributes.u16(1));
                }
            }
        }

        #[test]
        fn shortened_answers_do_no_harm(keep in 0_usize..60, flip in 0_usize..60, bit in 0_u8..8) {
            let mut message = Message::new(30, 1, 1, 1);
            message.u32(9, 5);
            message.u32(1, 5);
            let mut bytes = [message.finish(), end(1, 0)].concat();
            bytes.truncate(keep);
            if let Some(byte) = bytes.get_mut(flip) {
                *byte ^= 1 << bit;
            }
            for answer in answers(&bytes, 1) {
                if let Answer::Attributes(attributes) = answer {
                    let _ = attributes.u32(1);
                }
            }
        }
    }
}
