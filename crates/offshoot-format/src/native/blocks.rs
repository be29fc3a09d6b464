//! Blocks: the units of which a cluster keeps the state.

/// Size of a block in clusters of up to 32 MiB, in bytes.
const BLOCK_BYTES_MIN: u32 = 4096;

/// Most blocks of a cluster: the states of one must fit a layer page.
const BLOCKS_MAX: u32 = 8192;

/// What one layer holds of one block. Two bits on disk; the value 3 does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockState {
    /// Nothing: what lies below shows through.
    Inherit = 0,
    /// The data in the layer's cluster.
    Data = 1,
    /// Zeros, whatever lies below.
    Zero = 2,
}

impl BlockState {
    /// The state that two bits stand for.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Inherit),
            1 => Some(Self::Data),
            2 => Some(Self::Zero),
            _ => None,
        }
    }
}

/// Size of a block in bytes: 4096, and for clusters above 32 MiB the smallest power of two of which a cluster has at
/// most 8192.
#[must_use]
pub const fn block_bytes(cluster_size: u32) -> u32 {
    let mut block = BLOCK_BYTES_MIN;
    while cluster_size.div_ceil(block) > BLOCKS_MAX {
        block *= 2;
    }
    block
}

/// How many blocks a cluster has, at most 8192. The last one is shorter when the sizes do not divide.
#[must_use]
pub const fn blocks_per_cluster(cluster_size: u32) -> u32 {
    cluster_size.div_ceil(block_bytes(cluster_size))
}

/// Bytes that the states of one cluster's blocks take, at most 2048.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "at most 8192 / 4")]
pub const fn states_bytes(cluster_size: u32) -> u16 {
    blocks_per_cluster(cluster_size).div_ceil(4) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        const MIB: u32 = 1 << 20;
        let table = [
            // cluster, block, blocks, bytes of states
            (4096, 4096, 1, 1),
            (20 * 1024, 4096, 5, 2),
            (MIB, 4096, 256, 64),
            (4 * MIB, 4096, 1024, 256),
            (32 * MIB, 4096, 8192, 2048),
            (32 * MIB + 4096, 8192, 4097, 1025),
            (64 * MIB, 8192, 8192, 2048),
            (1 << 31, 1 << 18, 8192, 2048),
            (u32::MAX - 4095, 1 << 19, 8192, 2048),
            (0, 4096, 0, 0),
        ];
        for (cluster, block, blocks, bytes) in table {
            assert_eq!(block_bytes(cluster), block, "{cluster}");
            assert_eq!(blocks_per_cluster(cluster), blocks, "{cluster}");
            assert_eq!(states_bytes(cluster), bytes, "{cluster}");
        }
    }
}
