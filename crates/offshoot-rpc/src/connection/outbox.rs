//! Bytes to send.

use crate::error::RpcError;

/// Sent bytes are forgotten when they are this many, or all.
const COMPACT_BYTES: usize = 64 << 10;

/// Memory that an empty outbox keeps.
const KEPT_BYTES: usize = 64 << 10;

/// Responses that were queued and not yet sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn advance(&mut self, count: usize) {
        assert!(count <= self.unsent().len(), "{count} bytes were not there to be sent");
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
            self.sent = 0;
        } else if self.sent >= COMPACT_BYTES && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// A response, its members in SPDK's order.
pub(super) fn encode(id: Option<&str>, reply: Result<&str, &RpcError>) -> Vec<u8> {
    let id = id.unwrap_or("null");
    let text = match reply {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Err(error) => {
            // An error is a number and a string, which always are JSON.
            let error = serde_json::to_string(error).unwrap_or_default();
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
        }
    };
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        assert_eq!(encode(Some("7"), Ok("true")), br#"{"jsonrpc":"2.0","id":7,"result":true}"#);
        let error = RpcError::new(-19, "No such \"device\"");
        let expected = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-19,"message":"No such \"device\""}}"#;
        assert_eq!(encode(None, Err(&error)), expected);
    }

    #[test]
    fn sends_in_order_in_any_steps() {
        let all: Vec<u8> = (0_u32..70_000).flat_map(u32::to_le_bytes).collect();
        for step in [1000, 65_536, 1 << 20] {
            let mut outbox = Outbox::default();
            let mut wire = Vec::new();
            for part in all.chunks(7777) {
                outbox.push(&[part]);
                let count = outbox.unsent().len().min(step);
                wire.extend_from_slice(&outbox.unsent()[..count]);
                outbox.advance(count);
            }
            wire.extend_from_slice(outbox.unsent());
            outbox.advance(outbox.unsent().len());
            assert!(wire == all, "step {step}");
            assert!(outbox.bytes.capacity() <= KEPT_BYTES);
        }
    }
}
