//! The cluster map: what each cluster of an lvol is made of and who owns it.

mod entry;
mod flat;
mod leaf;
mod node;
mod states;
mod tags;
mod tree;

pub use entry::{Entry, Layer, Source, Stack, Tag};
pub use flat::Flat;
pub use leaf::{Leaf, SLOTS};
pub use states::BlockStates;
pub use tags::Tags;
pub use tree::Tree;
