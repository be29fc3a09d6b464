//! LAYERS (descriptor type 0x81): what single blocks of clusters hold.

use super::BlockState;
use crate::md_page::sole_descriptor;
use crate::piece::{Piece, write_page};
use crate::{
    BlobId, CLUSTERS_PER_EXTENT_PAGE, ClusterIdx, DESCRIPTORS_BYTES, Damage, DescriptorKind, ExtentOrdinal,
    Fault, MdPageHeader, MdPageIdx, PageImage,
};
use alloc::vec::Vec;
use core::mem::size_of;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A layer page: LAYERS as the only descriptor of an md page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPage {
    /// The blob that wrote it last. Not necessarily the owner: layer pages move between blobs by pointer.
    pub id: BlobId,
    /// Whose clusters, like those of the extent page of this ordinal.
    pub ordinal: ExtentOrdinal,
    /// Bytes of block states in each record: [`crate::states_bytes`] of the store's cluster size.
    pub states_bytes: u16,
    /// The records, ascending by slot and depth, at most [`records_per_layer_page`].
    pub records: Vec<LayerRecord>,
}

/// What one blob holds of one of its clusters, block by block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRecord {
    /// Which cluster of the ordinal, below 512.
    pub slot: u16,
    /// 0 for the newest layer that the blob owns at this slot; each older one is one deeper.
    pub depth: u16,
    /// Where the data blocks are; `None` when there are none.
    pub cluster: Option<ClusterIdx>,
    /// Two bits a block, see [`BlockState`]; block 0 is in the lowest bits of byte 0. Bits behind the last block are
    /// zero.
    pub states: Vec<u8>,
}

/// The payload of a LAYERS descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// See [`LayerPage::ordinal`].
    pub ordinal: ExtentOrdinal,
    /// See [`LayerPage::states_bytes`].
    pub states_bytes: u16,
    /// See [`LayerPage::records`].
    pub records: Vec<LayerRecord>,
}

/// How many records fit one layer page, at least one for any cluster size.
#[must_use]
pub const fn records_per_layer_page(states_bytes: usize) -> usize {
    (DESCRIPTORS_BYTES - crate::descriptor::HEADER_BYTES - size_of::<RawHeader>())
        / (size_of::<RawRecord>() + states_bytes)
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    ordinal: U32,
    states_bytes: U16,
    count: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRecord {
    slot: U16,
    depth: U16,
    cluster: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 8 && size_of::<RawRecord>() == 8);
const _: () = assert!(records_per_layer_page(2048) == 1);

impl LayerPage {
    /// The layer page at `at`, which must be one of `ordinal` in a store of this size of states.
    ///
    /// # Errors
    /// A bad checksum, another kind of page, another ordinal or size of states, and records that are out of order, in
    /// no valid state, or have data without a cluster.
    pub fn decode(
        at: MdPageIdx,
        bytes: &[u8],
        ordinal: ExtentOrdinal,
        states_bytes: u16,
    ) -> Result<Self, Damage> {
        let (header, payload) = sole_descriptor(at, bytes, DescriptorKind::LAYERS)?;
        let checked = || {
            let layers = Layers::decode(payload)?;
            if layers.ordinal != ordinal {
                return Err(Fault::LayerOrdinal { stored: layers.ordinal.0, expected: ordinal.0 });
            }
            if layers.states_bytes != states_bytes {
                return Err(Fault::StatesBytes { stored: layers.states_bytes, expected: states_bytes });
            }
            Ok(layers)
        };
        let Layers { records, .. } = checked().map_err(|what| Damage::in_md_page(at, what))?;
        Ok(Self { id: BlobId(header.id), ordinal, states_bytes, records })
    }

    /// The md page.
    ///
    /// # Panics
    /// On more records than fit, on states of another length than `states_bytes`, and on records that are not in
    /// ascending order: what this wrote, nothing could read.
    #[must_use]
    pub fn encode(&self) -> PageImage {
        let mut last = None;
        for record in &self.records {
            assert_eq!(record.states.len(), usize::from(self.states_bytes), "bytes of block states");
            let place = Some((record.slot, record.depth));
            assert!(last < place, "layer record {place:?} after {last:?}");
            last = place;
        }
        let header = MdPageHeader { id: self.id.0, sequence: 0, next: None };
        let piece =
            Piece::Layers { ordinal: self.ordinal, states_bytes: self.states_bytes, records: &self.records };
        write_page(header, [piece])
    }
}

impl Layers {
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let wrong_length = || Fault::DescriptorLength { kind: DescriptorKind::LAYERS, length: payload.len() };
        let (header, mut rest) = RawHeader::ref_from_prefix(payload).map_err(|_| wrong_length())?;
        let states_bytes = header.states_bytes.get();
        let mut layers =
            Self { ordinal: ExtentOrdinal(header.ordinal.get()), states_bytes, records: Vec::new() };
        let mut last = None;
        for _ in 0..header.count.get() {
            let (raw, after) = RawRecord::ref_from_prefix(rest).map_err(|_| wrong_length())?;
            let (states, after) = after.split_at_checked(states_bytes.into()).ok_or_else(wrong_length)?;
            rest = after;
            let record = LayerRecord::decode(raw, states)?;
            let place = Some((record.slot, record.depth));
            if last >= place {
                return Err(Fault::LayerRecord { slot: record.slot, depth: record.depth });
            }
            last = place;
            layers.records.push(record);
        }
        if rest.is_empty() { Ok(layers) } else { Err(wrong_length()) }
    }
}

impl LayerRecord {
    /// The state of each block, those behind the last block of the cluster included.
    ///
    /// A record that was decoded has no other states than these; in one that was made otherwise they end at the first
    /// that does not exist.
    pub fn states(&self) -> impl Iterator<Item = BlockState> + '_ {
        unpack(&self.states).map_while(BlockState::from_bits)
    }

    fn decode(raw: &RawRecord, states: &[u8]) -> Result<Self, Fault> {
        let (slot, depth, cluster) = (raw.slot.get(), raw.depth.get(), raw.cluster.get());
        if usize::from(slot) >= CLUSTERS_PER_EXTENT_PAGE {
            return Err(Fault::LayerRecord { slot, depth });
        }
        for (block, state) in (0_u32..).zip(unpack(states)) {
            match BlockState::from_bits(state) {
                None => return Err(Fault::BlockState { slot, block, state }),
                Some(BlockState::Data) if cluster == 0 => {
                    return Err(Fault::BlockState { slot, block, state });
                }
                Some(_) => (),
            }
        }
        Ok(Self {
            slot,
            depth,
            cluster: (cluster != 0).then_some(ClusterIdx(cluster)),
            states: states.to_vec(),
        })
    }
}

/// The two bits of each block.
fn unpack(states: &[u8]) -> impl Iterator<Item = u8> + '_ {
    states.iter().flat_map(|byte| [0, 2, 4, 6].map(|bit| byte >> bit & 3))
}

/// Bytes of the payload with `count` records.
pub(crate) fn payload_bytes(states_bytes: u16, count: usize) -> usize {
    size_of::<RawHeader>() + count * (size_of::<RawRecord>() + usize::from(states_bytes))
}

/// Hands out the bytes of a payload with these records.
pub(crate) fn write_payload(
    ordinal: ExtentOrdinal,
    states_bytes: u16,
    records: &[LayerRecord],
    mut put: impl FnMut(&[u8]),
) {
    let Ok(count) = u16::try_from(records.len()) else { panic!("{} layer records", records.len()) };
    let header =
        RawHeader { ordinal: ordinal.0.into(), states_bytes: states_bytes.into(), count: count.into() };
    put(header.as_bytes());
    for record in records {
        let raw = RawRecord {
            slot: record.slot.into(),
            depth: record.depth.into(),
            cluster: record.cluster.map_or(0, |cluster| cluster.0).into(),
        };
        put(raw.as_bytes());
        put(&record.states);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn record(slot: u16, depth: u16, cluster: u32, states: [u8; 2]) -> LayerRecord {
        let cluster = (cluster != 0).then_some(ClusterIdx(cluster));
        LayerRecord { slot, depth, cluster, states: states.to_vec() }
    }

    fn page(records: Vec<LayerRecord>) -> LayerPage {
        LayerPage { id: BlobId(0x1_0000_0005), ordinal: ExtentOrdinal(2), states_bytes: 2, records }
    }

    fn decode(image: &[u8]) -> Result<LayerPage, Fault> {
        LayerPage::decode(MdPageIdx(8), image, ExtentOrdinal(2), 2).map_err(|damage| damage.what)
    }

    #[test]
    fn round_trips() {
        let sample = page(vec![
            record(0, 0, 17, [0b10_01_00_01, 0]),
            record(0, 1, 0, [0b10, 0b10_00_00_00]),
            record(511, 0, 18, [0; 2]),
        ]);
        assert_eq!(decode(&sample.encode()), Ok(sample));
        let full = page((0..405).map(|slot| record(slot, 0, 1, [1, 1])).collect());
        assert_eq!(full.records.len(), records_per_layer_page(2));
        assert_eq!(decode(&full.encode()), Ok(full));
        assert_eq!(decode(&page(vec![]).encode()), Ok(page(vec![])));
    }

    #[test]
    fn refuses() {
        let one = |slot, cluster, states| decode(&page(vec![record(slot, 3, cluster, states)]).encode());
        assert_eq!(one(512, 1, [0, 0]), Err(Fault::LayerRecord { slot: 512, depth: 3 }));
        assert_eq!(one(4, 1, [0, 0b1100]), Err(Fault::BlockState { slot: 4, block: 5, state: 3 }));
        assert_eq!(one(4, 0, [0b100, 0]), Err(Fault::BlockState { slot: 4, block: 1, state: 1 }));

        let image = page(vec![]).encode();
        let at = MdPageIdx(8);
        let other = LayerPage::decode(at, &image, ExtentOrdinal(1), 2).map_err(|damage| damage.what);
        assert_eq!(other, Err(Fault::LayerOrdinal { stored: 2, expected: 1 }));
        let other = LayerPage::decode(at, &image, ExtentOrdinal(2), 4).map_err(|damage| damage.what);
        assert_eq!(other, Err(Fault::StatesBytes { stored: 2, expected: 4 }));
    }

    #[test]
    fn refuses_records_out_of_order_and_odd_lengths() {
        let mut payload = Vec::new();
        let records = [record(4, 1, 1, [0, 0]), record(4, 1, 1, [0, 0])];
        write_payload(ExtentOrdinal(0), 2, &records, |chunk| {
            payload.extend_from_slice(chunk);
        });
        assert_eq!(payload.len(), payload_bytes(2, 2));
        assert_eq!(Layers::decode(&payload), Err(Fault::LayerRecord { slot: 4, depth: 1 }));
        for length in [0, 7, 8, 15, 17] {
            let short = Layers::decode(&payload[..length]);
            assert_eq!(short, Err(Fault::DescriptorLength { kind: DescriptorKind::LAYERS, length }));
        }
        payload[6] = 1;
        let long = Layers::decode(&payload);
        assert_eq!(long, Err(Fault::DescriptorLength { kind: DescriptorKind::LAYERS, length: 28 }));
    }

    #[test]
    #[should_panic(expected = "after")]
    fn does_not_write_records_out_of_order() {
        let _ = page(vec![record(4, 0, 1, [0, 0]), record(3, 0, 1, [0, 0])]).encode();
    }
}
