//! Does a State agree with itself?
//!
//! Loading holds the md pages of each blob, the masks and the owners against each other as they were at the last
//! checkpoint. The audit does so with what the journal has added since, and looks at the relations between blobs and
//! at every block state. A sound store, whatever was done to it, passes; what fails here is damage or a fault of ours.

use crate::blob::Blob;
use crate::load::{Finding, Found};
use crate::pages::OrdinalMd;
use crate::state::State;
use alloc::{format, string::String, vec::Vec};
use offshoot_format::{Bitmap, BlobId, ClusterIdx, MaskKind};

impl State {
    /// What contradicts what. Damaged blobs are left out: they have findings of their own.
    #[must_use]
    pub fn audit(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut report = |blob: &Blob, why: String| {
            found.push(Finding {
                lvol: Some(blob.display_name()),
                what: Found::Inconsistent { blob: blob.id, why },
            });
        };
        let mut clusters = Owned::new(self.clusters.used().len());
        let mut pages = Owned::new(self.md.used().len());
        (0..self.layout.metadata_clusters()).for_each(|cluster| clusters.add(cluster));
        for blob in self.blobs().filter(|blob| blob.damage.is_none()) {
            for why in self.relations(blob).into_iter().chain(self.own_counts(blob, &mut clusters)) {
                report(blob, why);
            }
            let mapped = blob.pages.ordinals.values().flat_map(OrdinalMd::pages);
            blob.pages.chain.iter().copied().chain(mapped).for_each(|page| pages.add(page.0));
        }
        let damaged = self.blobs().any(|blob| blob.damage.is_some());
        for (kind, owned, used) in
            [(MaskKind::Clusters, clusters, self.clusters.used()), (MaskKind::MdPages, pages, self.md.used())]
        {
            let missing = owned.seen.iter_ones().filter(|unit| !used.get(*unit)).count();
            let surplus = used.iter_ones().filter(|unit| !owned.seen.get(*unit)).count();
            // What damaged blobs own is marked, and nobody can tell what that is.
            let surplus = if damaged { 0 } else { surplus };
            if missing + surplus > 0 {
                found.push(Finding { lvol: None, what: Found::Mask { kind, surplus, missing } });
            }
            for unit in owned.twice {
                found.push(Finding { lvol: None, what: Found::Twice { kind, unit } });
            }
        }
        found
    }

    fn relations(&self, blob: &Blob) -> Vec<String> {
        let mut wrong = Vec::new();
        let parent = blob.parent.and_then(|parent| self.blob(parent));
        if let Some(parent) = parent {
            if !parent.clones.contains(&blob.id) {
                wrong.push(format!("its parent, blob {}, does not know it", parent.id));
            }
            if parent.dying {
                wrong.push(format!("its parent, blob {}, is being removed", parent.id));
            }
        }
        if let Some(parent) = blob.parent.filter(|_| parent.is_none()) {
            wrong.push(format!("its parent, blob {parent}, does not exist"));
        }
        let strange = |clone: &&BlobId| self.blob(**clone).is_none_or(|clone| clone.parent != Some(blob.id));
        wrong
            .extend(blob.clones.iter().filter(strange).map(|clone| format!("blob {clone} is not its clone")));
        if blob.inherit_len > blob.len {
            wrong.push(format!("it inherits {} clusters and has {}", blob.inherit_len, blob.len));
        }
        wrong
    }

    /// What a blob owns, counted from its map, against what is kept about it.
    fn own_counts(&self, blob: &Blob, clusters: &mut Owned) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut own = 0;
        for (ordinal, md) in &blob.pages.ordinals {
            let mut full = 0_u32;
            let mut layers = alloc::vec![0_u32; self.units.spread.ranges()];
            for (slot, entry) in blob.tree.leaf(*ordinal).into_iter().flat_map(crate::map::Leaf::entries) {
                let at = ordinal.first_cluster().0 + slot as u64;
                for (_, cluster, states) in
                    entry.layers().filter(|(tag, ..)| self.owner(*tag) == Some(blob.id))
                {
                    full += u32::from(states.is_none());
                    layers[self.units.spread.range_of(slot)] += u32::from(states.is_some());
                    own += u64::from(cluster.is_some());
                    let backed = states.is_none_or(|states| states.any(offshoot_format::BlockState::Data));
                    if cluster.is_some() != backed {
                        wrong.push(format!("cluster {at}: its layer and its cluster do not fit each other"));
                    }
                    cluster.into_iter().for_each(|ClusterIdx(cluster)| clusters.add(cluster));
                }
                if at >= blob.len {
                    wrong.push(format!("cluster {at} is beyond its end at {}", blob.len));
                }
            }
            if full != u32::from(md.own_full) || !md.counts(self.units.spread, &layers) {
                wrong.push(format!(
                    "clusters from {} on: {full} full and {} layers are its own, counted as {} and {}",
                    ordinal.first_cluster().0,
                    layers.iter().sum::<u32>(),
                    md.own_full,
                    md.own_layers()
                ));
            }
        }
        if own != blob.own_clusters {
            wrong.push(format!("it owns {own} clusters, counted as {}", blob.own_clusters));
        }
        wrong
    }
}

/// Units that somebody owns.
struct Owned {
    seen: Bitmap,
    twice: Vec<u32>,
}

impl Owned {
    fn new(units: usize) -> Self {
        Self { seen: Bitmap::new(units), twice: Vec::new() }
    }

    fn add(&mut self, unit: u32) {
        match self.seen.get(unit as usize) {
            true => self.twice.push(unit),
            false => self.seen.set(unit as usize, true),
        }
    }
}
