//! `serve --config` and `load_config`: the calls of a configuration, one after the other, while everything else goes on.

use super::answers::Asker;
use anyhow::{Context as _, Result, bail};
use offshoot_rpc::types::config::{Config, ConfigCall};
use offshoot_rpc::{Document, Params, Reply, Request, ResultText, RpcError};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use tracing::warn;

/// Bytes that a configuration may have.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A configuration that is being loaded, and what has been.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) waiting: VecDeque<ConfigCall>,
    pub(super) under_way: Option<ConfigCall>,
    /// Calls that were done, of all configurations: they are not made again.
    pub(super) done: Vec<ConfigCall>,
    /// What went wrong, of this one.
    pub(super) failed: Vec<RpcError>,
    /// Who waits for its end.
    pub(super) asker: Option<Asker>,
}

impl Replay {
    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty() && self.asker.is_none()
    }

    /// Whether there is something to do, and nothing to wait for.
    pub(super) fn can_go_on(&self) -> bool {
        self.under_way.is_none() && !self.is_idle()
    }

    /// Begins with a configuration, when it is idle. What is in force already is left out.
    pub(super) fn load(&mut self, config: Config, asker: Option<Asker>) {
        let calls: Vec<ConfigCall> = config.into_calls().collect();
        for gone in self.done.iter().filter(|call| !calls.contains(call)) {
            warn!(call = %described(gone), "not in the configuration any more, and in force still");
        }
        self.waiting = calls.into_iter().filter(|call| !self.done.contains(call)).collect();
        (self.failed, self.asker) = (Vec::new(), asker);
    }

    /// What went wrong, and who is told, once the end is reached.
    pub(super) fn ended(&mut self) -> Option<(Asker, Reply)> {
        let has_ended = self.under_way.is_none() && self.waiting.is_empty();
        let asker = self.asker.take_if(|_| has_ended)?;
        let reply = self.failed.first().map_or_else(|| ResultText::of(&true), |error| Err(error.clone()));
        Some((asker, reply))
    }

    pub(super) fn next(&mut self) -> Option<Request> {
        if self.under_way.is_some() {
            return None;
        }
        while let Some(call) = self.waiting.pop_front() {
            match request(&call) {
                Ok(request) => {
                    self.under_way = Some(call);
                    return Some(request);
                }
                Err(cause) => self.fail(&call, RpcError::PARAMS, &cause.to_string()),
            }
        }
        None
    }

    pub(super) fn settle(&mut self, reply: Reply) {
        let Some(call) = self.under_way.take() else { return };
        match reply {
            // Waiting is done anew each time.
            Ok(_) if call.params.is_none() => {}
            Ok(_) => self.remember(call),
            // Configurations of SPDK's have much that is none of this server's business.
            Err(error) if error.code == RpcError::METHOD_NOT_FOUND => {
                warn!(method = call.method, "not served here: left out");
            }
            Err(error) => {
                let text = error.message.clone();
                self.fail(&call, error, &text);
            }
        }
    }

    /// The same call about the same thing takes the place of the one before.
    fn remember(&mut self, call: ConfigCall) {
        self.done.retain(|other| (&other.method, name(other)) != (&call.method, name(&call)));
        self.done.push(call);
    }

    fn fail(&mut self, call: &ConfigCall, error: RpcError, text: &str) {
        let call = described(call);
        warn!(%call, cause = text, "not configured");
        self.failed.push(RpcError { message: format!("{call}: {text}").into(), ..error });
    }
}

/// The configuration in a file.
///
/// # Errors
/// It cannot be read, or is none.
pub(super) fn read(path: &Path) -> Result<Config> {
    let read = || {
        let len = fs::metadata(path)?.len();
        if len > FILE_BYTES_MAX {
            bail!("has {len} bytes, and a configuration at most {FILE_BYTES_MAX}");
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    };
    read().with_context(|| format!("configuration {}", path.display()))
}

fn request(call: &ConfigCall) -> Result<Request> {
    let params = match &call.params {
        None | Some(Value::Null) => None,
        Some(params) => Document::parse(&params.to_string())?.map(Params::from),
    };
    Ok(Request { method: call.method.clone(), params })
}

/// What a call is about.
fn name(call: &ConfigCall) -> Option<&str> {
    let params = call.params.as_ref()?;
    ["name", "bdev_name"].iter().find_map(|member| params.get(member)?.as_str())
}

fn described(call: &ConfigCall) -> String {
    format!("{} {}", call.method, name(call).unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::answers::Door;
    use super::*;
    use offshoot_rpc::RequestId;

    fn config(calls: &[(&str, &str)]) -> Config {
        let calls = calls.iter().map(|(method, params)| {
            let params = serde_json::from_str::<Value>(params).unwrap();
            serde_json::json!({"method": method, "params": params})
        });
        let value = serde_json::json!({"subsystems": [
            {"subsystem": "bdev", "config": calls.collect::<Vec<_>>()},
            {"subsystem": "sock", "config": null},
        ]});
        serde_json::from_value(value).unwrap()
    }

    /// The methods that are called, each answered like that.
    fn called(replay: &mut Replay, reply: &Reply) -> Vec<String> {
        let mut methods = Vec::new();
        while let Some(request) = replay.next() {
            assert!(replay.next().is_none(), "one at a time");
            methods.push(request.method);
            replay.settle(reply.clone());
        }
        methods
    }

    #[test]
    fn what_is_in_force_is_not_called_again() {
        let mut replay = Replay::default();
        let (a, b) = (("bdev_aio_create", r#"{"name":"a"}"#), ("bdev_wait_for_examine", "null"));
        let limit = ("bdev_set_qos_limit", r#"{"name":"a","rw_ios_per_sec":1000}"#);
        let other = ("bdev_set_qos_limit", r#"{"name":"a","rw_ios_per_sec":2000}"#);
        let done = ResultText::of(&true);
        replay.load(config(&[a, b, limit]), None);
        assert_eq!(called(&mut replay, &done), [a.0, b.0, limit.0]);
        replay.load(config(&[a, b, other]), None);
        assert_eq!(called(&mut replay, &done), [b.0, other.0]);
        replay.load(config(&[a, b, limit]), None);
        assert_eq!(called(&mut replay, &done), [b.0, limit.0]);
        assert!(replay.is_idle());
    }

    #[test]
    fn what_fails_is_told_and_called_again_the_next_time() {
        let mut replay = Replay::default();
        let create = ("bdev_aio_create", r#"{"name":"a"}"#);
        let asker = Asker { door: Door::Public, id: RequestId(7) };
        replay.load(config(&[create]), Some(asker));
        assert!(!replay.is_idle() && replay.ended().is_none());
        let refused = Err(RpcError::new(-17, "File exists"));
        assert_eq!(called(&mut replay, &refused), [create.0]);
        let (_, reply) = replay.ended().unwrap();
        let error = reply.unwrap_err();
        assert_eq!((error.code, &*error.message), (-17, "bdev_aio_create a: File exists"));
        replay.load(config(&[create]), None);
        // What is not served here is left out in peace.
        assert_eq!(called(&mut replay, &Err(RpcError::METHOD)), [create.0]);
        assert!(replay.failed.is_empty() && replay.is_idle());
    }
}
