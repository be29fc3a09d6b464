//! offshoot's extension of the format.
//!
//! All of it stands only in stores whose super block carries [`crate::NATIVE_VERSION`], which SPDK refuses: a header in
//! the reserved bytes of the super block ([`NativeHeader`]), one more descriptor in the chain of a blob
//! ([`NativeBlob`]), layer pages ([`LayerPage`]) that say block by block what clusters hold, and the journal with its
//! frames ([`FrameHeader`], [`ImageSet`]) and live masks ([`LiveMaskPage`]). Sealing a store leaves nothing of it
//! behind.

mod blob;
mod blocks;
mod header;
mod image_set;
mod journal;
mod layers;
mod live_mask;

pub use blob::NativeBlob;
pub use blocks::{BlockState, block_bytes, blocks_per_cluster, states_bytes};
pub use header::{
    JournalArea, NATIVE_HEADER_BYTES, NATIVE_HEADER_OFFSET, NativeFlags, NativeHeader, PreviousEpoch,
    SessionId,
};
pub use image_set::{ImageSet, MdPageRun};
pub use journal::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, encode_frame};
pub use layers::{LayerPage, LayerRecord, Layers, records_per_layer_page};
pub use live_mask::{LIVE_MASK_BITS, LiveMaskPage, live_mask_pages};

pub(crate) use blob::{NATIVE_BLOB_HEADER_BYTES, write_part as write_native_blob};
pub(crate) use layers::{payload_bytes as layers_payload_bytes, write_payload as write_layers};

#[cfg(test)]
pub(crate) use {
    header::tests::sample as sample_header, image_set::tests::sample as sample_image_set,
    journal::tests::sample as sample_frame,
};
