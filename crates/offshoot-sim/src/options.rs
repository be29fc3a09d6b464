//! The arguments.

use crate::work::Runs;
use offshoot_sim::Bounds;
use offshoot_store::Clause;

pub(crate) const USAGE: &str = "\
usage: cargo xtask sim [--seed N | --minutes M | --states N] [--damage] [--thorough] [--full]
       cargo xtask sim --break RULE

  (nothing)       all short sequences of steps, cut and made to fail everywhere, and fixed sets of seeds
  --damage        runs in which the disk rots, loses or misdirects writes, or cannot be read
  --thorough      the same with many more subsets of unflushed writes
  --full          all of what led to a violation, not only the end of it
  --seed N        one run, the same one every time
  --minutes M     random runs from a fresh seed on, for so long
  --states N      random runs from a fresh seed on, until so many crash states were checked
  --break RULE    R1 to R8, or one clause by name: without each clause of it, a violation must be found

The last line is `states=N cuts=N torn=N reordered=N violations=N`.
Exit status: 0 no violation; 1 violations; 2 usage; 4 a clause could be switched off unnoticed.
";

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Default,
    Seed(u64),
    Minutes(u64),
    States(u64),
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) extent: Extent,
    pub(crate) bounds: Bounds,
    pub(crate) broken: Vec<Clause>,
    pub(crate) runs: Runs,
    /// Whether reports are printed in full.
    pub(crate) full: bool,
}

impl Options {
    /// `None` when the arguments make no sense.
    pub(crate) fn parse(args: &[String]) -> Option<Self> {
        let mut options = Self {
            extent: Extent::Default,
            bounds: Bounds::FEW,
            broken: Vec::new(),
            runs: Runs::Crashes,
            full: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--damage" => options.runs = Runs::Damage,
                "--full" => options.full = true,
                "--thorough" => options.bounds = Bounds::MANY,
                "--break" => options.broken = clauses(args.next()?)?,
                "--seed" => options.extent = Extent::Seed(args.next()?.parse().ok()?),
                "--minutes" => options.extent = Extent::Minutes(args.next()?.parse().ok()?),
                "--states" => options.extent = Extent::States(args.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// The clauses of a rule, or the one of a name.
fn clauses(what: &str) -> Option<Vec<Clause>> {
    let is_meant = |clause: &Clause| {
        format!("R{}", clause.rule()).eq_ignore_ascii_case(what) || format!("{clause:?}") == what
    };
    let clauses: Vec<Clause> = Clause::ALL.into_iter().filter(is_meant).collect();
    (!clauses.is_empty()).then_some(clauses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &str) -> Option<Options> {
        let args: Vec<String> = args.split_whitespace().map(String::from).collect();
        Options::parse(&args)
    }

    #[test]
    fn takes_what_the_usage_names() {
        for (args, extent) in [
            ("", Extent::Default),
            ("--seed 7", Extent::Seed(7)),
            ("--minutes 2 --thorough", Extent::Minutes(2)),
            ("--states 10", Extent::States(10)),
        ] {
            assert_eq!(parsed(args).map(|options| options.extent), Some(extent), "{args}");
        }
        for args in ["--seed", "--seed x", "--break", "--break R9", "--break nothing", "more"] {
            assert_eq!(parsed(args), None, "{args}");
        }
    }

    #[test]
    fn a_rule_is_broken_clause_by_clause() {
        let broken = |args: &str| parsed(args).map(|options| options.broken).unwrap_or_default();
        assert_eq!(broken("--break R1"), [Clause::ReuseBehindBarrier, Clause::ReuseAfterIo]);
        assert_eq!(broken("--break DropTail"), [Clause::DropTail]);
        let all: usize = (1..=8).map(|rule| broken(&format!("--break r{rule}")).len()).sum();
        assert_eq!(all, Clause::ALL.len());
    }
}
