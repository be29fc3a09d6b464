//! Clear methods as they are typed: SPDK's words.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is done with space that nobody holds any more. Nobody is shown what it held, whatever is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum ClearMethod {
    /// As unmap
    #[default]
    Default,
    /// Nothing
    None,
    /// It is given back to the device
    Unmap,
    /// It is overwritten with zeros
    #[value(name = "write_zeroes", alias = "write-zeroes")]
    WriteZeroes,
}

impl From<ClearMethod> for offshoot_store::ClearMethod {
    fn from(method: ClearMethod) -> Self {
        match method {
            ClearMethod::Default => Self::Default,
            ClearMethod::None => Self::None,
            ClearMethod::Unmap => Self::Unmap,
            ClearMethod::WriteZeroes => Self::WriteZeroes,
        }
    }
}
