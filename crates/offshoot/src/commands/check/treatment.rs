//! What became of each finding.

use crate::json::{Damage, Treated};
use offshoot_format::MaskKind;
use offshoot_store::{Finding, Found, Repairs};

/// What became of what was found `before` a repair, by what is found `after` it, which may be more than was to be seen
/// before.
pub(super) fn treated(before: &[Finding], repairs: &Repairs, after: &[Finding]) -> Vec<Treated> {
    let is_left = |finding: &Finding| after.iter().any(|left| is_same(&finding.what, &left.what));
    let of = |finding: &Finding, is_left: bool| Treated {
        damage: Damage::from(finding),
        repaired: !is_left,
        note: match is_left {
            true => Some(why_left(&finding.what).to_owned()),
            false => repairs.note(&finding.what),
        },
    };
    let seen = before.iter().map(|finding| of(finding, is_left(finding)));
    let is_new = |left: &&Finding| !before.iter().any(|finding| is_same(&finding.what, &left.what));
    seen.chain(after.iter().filter(is_new).map(|finding| of(finding, true))).collect()
}

/// Whether two findings are about the same thing, however bad it is.
fn is_same(one: &Found, other: &Found) -> bool {
    match (one, other) {
        (
            Found::Damaged { blob, .. } | Found::Inconsistent { blob, .. },
            Found::Damaged { blob: other, .. } | Found::Inconsistent { blob: other, .. },
        ) => blob == other,
        (Found::Mask { kind, .. }, Found::Mask { kind: other, .. }) => kind == other,
        (Found::ClusterOwners { cluster, .. }, Found::ClusterOwners { cluster: other, .. }) => {
            cluster == other
        }
        (Found::MdPageOwners { page, .. }, Found::MdPageOwners { page: other, .. }) => page == other,
        (Found::DuplicateName { second, .. }, Found::DuplicateName { second: other, .. }) => second == other,
        (Found::RottenPages { .. }, Found::RottenPages { .. }) => true,
        // What was withheld for want of masks is marked in those that a repair writes.
        (Found::Withheld { .. }, Found::Withheld { .. } | Found::Mask { kind: MaskKind::Clusters, .. }) => {
            true
        }
        (one, other) => one == other,
    }
}

/// Why a repair leaves something as it is.
fn why_left(found: &Found) -> &'static str {
    match found {
        Found::Damaged { .. } | Found::Inconsistent { .. } => "what is lost is nowhere else in the store",
        Found::ClusterOwners { .. } | Found::Twice { .. } => {
            "there is no free cluster for a copy, or the owners cannot be written"
        }
        Found::MdPageOwners { .. } => "the owners cannot be written",
        Found::Mask { .. } | Found::LiveMask { .. } | Found::RottenPages { .. } | Found::Withheld { .. } => {
            "what counts as used may belong to a damaged lvol: repair again once that is removed"
        }
        Found::DuplicateName { .. } => "the lvol is damaged",
        _ => "nothing more is known",
    }
}
