//! The bytes of the protocol: constants, decoding, encoding. No state and no policy.

pub(crate) mod chunks;
pub(crate) mod handshake;
pub(crate) mod transmission;
pub(crate) mod wire;
