//! Which clients may open which exports.
//!
//! An export that has a list is there for those on it and for nobody else: others neither see it listed nor can tell it from
//! one that there is not. Who is connected already stays so.

use anyhow::{Error, Result, bail};
use offshoot_nbd::Peer;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use uuid::Uuid;

/// Clients of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Those whose certificate is for this DNS name.
    Certificate(String),
    /// Those on a Unix socket that are this user.
    Uid(u32),
    /// Those on TCP whose address begins with these bits.
    Network(IpAddr, u8),
}

impl Who {
    fn is(&self, peer: &Peer) -> bool {
        match self {
            Self::Certificate(name) => peer.names.iter().any(|other| other.eq_ignore_ascii_case(name)),
            Self::Uid(uid) => peer.uid == Some(*uid),
            Self::Network(network, bits) => {
                peer.address.is_some_and(|address| begins_alike(*network, address, *bits))
            }
        }
    }
}

/// Whether two addresses of one family have their first bits in common.
fn begins_alike(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let alike = |one: u128, other: u128, all: u32| {
        let rest = all.saturating_sub(bits.into());
        one.checked_shr(rest) == other.checked_shr(rest)
    };
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => alike(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => alike(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

impl FromStr for Who {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let network = |text: &str| {
            let (address, bits) = text.split_once('/').map_or((text, None), |(at, bits)| (at, Some(bits)));
            let address: IpAddr = address.parse().ok()?;
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all));
            Some(Self::Network(address, bits?))
        };
        let who = match text.split_once(':') {
            Some(("cert", name)) if !name.is_empty() => Some(Self::Certificate(name.to_owned())),
            Some(("uid", uid)) => uid.parse().ok().map(Self::Uid),
            Some(("addr", text)) => network(text),
            _ => None,
        };
        match who {
            Some(who) => Ok(who),
            None => bail!("\"{text}\" is no client: give cert:NAME, uid:NUMBER or addr:ADDRESS[/BITS]"),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(name) => write!(f, "cert:{name}"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Network(address, bits) => write!(f, "addr:{address}/{bits}"),
        }
    }
}

/// Who may open the exports of a name, or of all that begin like it: `NAME=WHO[,WHO]` or `PREFIX*=WHO[,WHO]`. Without
/// anybody behind the equals sign nobody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    name: String,
    is_prefix: bool,
    clients: Vec<Who>,
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, clients)) = text.split_once('=') else {
            bail!("give EXPORT=CLIENT[,CLIENT]");
        };
        let clients = clients.split(',').filter(|who| !who.is_empty()).map(str::parse);
        let clients = clients.collect::<Result<_>>()?;
        let (name, is_prefix) = name.strip_suffix('*').map_or((name, false), |prefix| (prefix, true));
        Ok(Self { name: name.to_owned(), is_prefix, clients })
    }
}

/// The lists of all exports.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// In the order in which they are asked: the first that is about an export counts.
    rules: Vec<Rule>,
    /// Of single lvols, before all rules.
    lvols: HashMap<Uuid, Vec<Who>>,
}

impl Access {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self { rules, lvols: HashMap::new() }
    }

    /// The list of an lvol that was set for it.
    pub(super) fn of_lvol(&self, lvol: Uuid) -> Option<&[Who]> {
        self.lvols.get(&lvol).map(Vec::as_slice)
    }

    /// Sets the list of an lvol. `None`: the rules are asked again.
    pub(super) fn set(&mut self, lvol: Uuid, clients: Option<Vec<Who>>) {
        match clients {
            Some(clients) => self.lvols.insert(lvol, clients),
            None => self.lvols.remove(&lvol),
        };
    }

    /// Whether a client may open an export.
    pub(super) fn allows(&self, peer: &Peer, export: &str, lvol: Option<Uuid>) -> bool {
        let rule = || {
            let mut rules = self.rules.iter();
            let is_meant = |rule: &&Rule| match rule.is_prefix {
                true => export.starts_with(&rule.name),
                false => export == rule.name,
            };
            rules.find(is_meant).map(|rule| &rule.clients)
        };
        let list = lvol.and_then(|lvol| self.lvols.get(&lvol)).or_else(rule);
        list.is_none_or(|clients| clients.iter().any(|who| who.is(peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Peer {
        Peer { address: Some(address.parse().unwrap()), ..Peer::default() }
    }

    #[test]
    fn clients_are_parsed_and_told() {
        for (text, told) in [
            ("cert:vm1.example", "cert:vm1.example"),
            ("uid:1000", "uid:1000"),
            ("addr:10.0.0.0/8", "addr:10.0.0.0/8"),
            ("addr:::1", "addr:::1/128"),
        ] {
            assert_eq!(text.parse::<Who>().unwrap().to_string(), told);
        }
        for bad in ["", "cert:", "uid:-1", "uid:x", "addr:10.0.0.0/33", "addr:x", "addr:::/129", "root"] {
            assert!(bad.parse::<Who>().is_err(), "{bad}");
        }
        assert!("vol".parse::<Rule>().is_err());
        assert!("vol=nobody".parse::<Rule>().is_err());
    }

    #[test]
    fn networks_are_compared_bit_by_bit() {
        for (network, address, is_in) in [
            ("10.1.0.0/16", "10.1.255.1", true),
            ("10.1.0.0/16", "10.2.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::/0", "2001:db8::1", true),
        ] {
            let who: Who = format!("addr:{network}").parse().unwrap();
            assert_eq!(who.is(&at(address)), is_in, "{network} {address}");
        }
    }

    #[test]
    fn the_first_rule_counts_and_an_lvols_own_list_before_it() {
        let rules = ["vm1/*=cert:vm1.example,uid:7", "vm1/disk=uid:8", "secret=", "*=uid:0"];
        let mut access = Access::new(rules.map(|rule| rule.parse().unwrap()).into());
        let uid = |uid| Peer { uid: Some(uid), ..Peer::default() };
        let named = Peer { names: vec!["other".into(), "VM1.example".into()], ..Peer::default() };
        let lvol = Uuid::from_u128(1);
        assert!(access.allows(&named, "vm1/disk", Some(lvol)) && access.allows(&uid(7), "vm1/x", None));
        assert!(!access.allows(&uid(8), "vm1/disk", Some(lvol)));
        assert!(access.allows(&uid(0), "other", None) && !access.allows(&uid(0), "secret", None));
        access.set(lvol, Some(vec![Who::Uid(9)]));
        assert!(
            access.allows(&uid(9), "vm1/disk", Some(lvol)) && !access.allows(&uid(7), "vm1/disk", Some(lvol))
        );
        access.set(lvol, None);
        assert!(!access.allows(&uid(9), "vm1/disk", Some(lvol)));
        assert!(Access::default().allows(&Peer::default(), "any", None));
    }
}
