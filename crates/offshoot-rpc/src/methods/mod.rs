//! The methods: names, parameters, when they may be called, what they answer when the parameters are wrong.
//!
//! What a method does is not known here. A server says which methods it serves ([`Dispatch::new`]), turns requests into
//! [`Call`]s, and has one `match` over those.

mod table;

pub use table::{Call, METHODS};

use crate::error::{Errno, RpcError};
use crate::request::{Params, Request};
use crate::types::framework::GetMethods;
use serde::Deserialize;
use std::collections::HashMap;
use tracing::debug;

/// Whether the server runs already. SPDK with `--wait-for-rpc` starts in the first state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Before `framework_start_init`.
    Startup,
    /// After it.
    Runtime,
}

/// When a method may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before `framework_start_init` only.
    Startup,
    /// After it only.
    Runtime,
    /// Always.
    Always,
}

impl When {
    /// Whether it may be called now.
    ///
    /// # Errors
    /// What SPDK answers when not.
    pub fn check(self, state: State) -> Result<(), RpcError> {
        const TOO_EARLY: &str =
            "Method may only be called after framework is initialized using framework_start_init RPC.";
        const TOO_LATE: &str = "Method may only be called before framework is initialized. \
             Use --wait-for-rpc command line parameter and then issue this RPC before the \
             framework_start_init RPC.";
        match (self, state) {
            (Self::Runtime, State::Startup) => Err(RpcError::new(RpcError::INVALID_STATE, TOO_EARLY)),
            (Self::Startup, State::Runtime) => Err(RpcError::new(RpcError::INVALID_STATE, TOO_LATE)),
            _ => Ok(()),
        }
    }
}

/// One method.
#[derive(Debug)]
pub struct Method {
    /// Its name. No method of this version has a second one.
    pub name: &'static str,
    /// When it may be called.
    pub when: When,
    errors: Errors,
    decode: fn(Option<&Params>) -> Option<Call>,
}

/// What a method answers when something is wrong.
#[derive(Debug)]
struct Errors {
    /// To parameters that cannot be decoded.
    wrong_params: RpcError,
    /// The code of what fails after it was begun.
    failure_code: i32,
}

impl Method {
    /// A failure after the method was begun: its text is that of the errno, its code says nothing. Before that,
    /// [`RpcError::refused`] is the answer.
    #[must_use]
    pub fn failed(&self, errno: Errno) -> RpcError {
        RpcError::new(self.errors.failure_code, errno.text())
    }

    /// The parameters as a call.
    ///
    /// # Errors
    /// What SPDK answers to parameters that are not as the method wants them.
    pub fn call(&self, params: Option<&Params>) -> Result<Call, RpcError> {
        (self.decode)(params).ok_or_else(|| self.errors.wrong_params.clone())
    }
}

/// The methods that a server serves.
#[derive(Debug)]
pub struct Dispatch {
    served: HashMap<&'static str, &'static Method>,
    state: State,
}

impl Dispatch {
    /// A server that runs already and serves the methods for which `serves` holds.
    pub fn new(serves: impl Fn(&Method) -> bool) -> Self {
        let served = METHODS.iter().filter(|method| serves(method));
        Self { served: served.map(|method| (method.name, method)).collect(), state: State::Runtime }
    }

    /// Enters a state.
    pub fn set_state(&mut self, state: State) {
        self.state = state;
    }

    /// The call that a request is, and its method.
    ///
    /// # Errors
    /// It is not served, not now, or not with these parameters.
    pub fn call(&self, request: &Request) -> Result<(&'static Method, Call), RpcError> {
        let method = *self.served.get(&*request.method).ok_or(RpcError::METHOD)?;
        method.when.check(self.state)?;
        Ok((method, method.call(request.params.as_ref())?))
    }

    /// The result of `rpc_get_methods`: names in alphabetical order.
    #[must_use]
    pub fn names(&self, params: Option<&GetMethods>) -> Vec<&'static str> {
        let current = params.and_then(|params| params.current).unwrap_or(false);
        let callable = |method: &&&Method| !current || method.when.check(self.state).is_ok();
        let mut names: Vec<_> = self.served.values().filter(callable).map(|method| method.name).collect();
        names.sort_unstable();
        names
    }
}

/// Parameters that have to be there.
fn required<T: for<'p> Deserialize<'p>>(params: Option<&Params>) -> Option<T> {
    match params?.decode() {
        Ok(params) => Some(params),
        Err(error) => {
            debug!(%error, "wrong parameters");
            None
        }
    }
}

/// Parameters that may be left out altogether. `{}` is not that.
fn optional<T: for<'p> Deserialize<'p>>(params: Option<&Params>) -> Option<Option<T>> {
    match params {
        None => Some(None),
        some => required(some).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Document;

    fn request(method: &str, params: &str) -> Request {
        let params = Document::parse(params).unwrap().map(Params::from);
        Request { method: method.to_owned(), params }
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        let dispatch = Dispatch::new(|method| method.name != "bdev_aio_create");
        for (method, params, code) in [
            ("spdk_get_version", "", None),
            ("bdev_aio_create", r#"{"name":"a","filename":"b"}"#, Some(-32601)),
            ("bdev_lvol_nonexistent", "", Some(-32601)),
            ("framework_start_init", "", Some(-1)),
            ("framework_wait_init", "", None),
            ("bdev_lvol_get_lvols", "", None),
            ("bdev_lvol_get_lvols", "{}", None),
            ("bdev_lvol_get_lvols", "[1,2]", Some(-32603)),
            ("spdk_get_version", "{}", Some(-32602)),
            ("rpc_get_methods", r#"{"currents":true}"#, Some(-32602)),
        ] {
            let error = dispatch.call(&request(method, params)).err();
            assert_eq!(error.map(|error| error.code), code, "{method} {params}");
        }
    }

    #[test]
    fn names_and_states() {
        let all = ["framework_start_init", "framework_wait_init", "rpc_get_methods", "spdk_get_version"];
        let mut dispatch = Dispatch::new(|method| all.contains(&method.name));
        let current = GetMethods { current: Some(true), include_aliases: Some(true) };
        assert_eq!(dispatch.names(None), all);
        assert_eq!(dispatch.names(Some(&current)), all[1..]);
        dispatch.set_state(State::Startup);
        assert_eq!(dispatch.names(Some(&current)), all);
        let error = When::Runtime.check(State::Startup).unwrap_err();
        assert!(error.code == -1 && error.message.ends_with("using framework_start_init RPC."));
    }

    #[test]
    fn failures_have_the_code_of_their_method() {
        for (name, code) in [("bdev_lvol_delete", -32603), ("bdev_lvol_resize", -32602)] {
            let method = METHODS.iter().find(|method| method.name == name).unwrap();
            let error = method.failed(Errno::Perm);
            assert_eq!((error.code, &*error.message), (code, "Operation not permitted"));
        }
    }

    #[test]
    fn no_name_stands_twice() {
        assert_eq!(Dispatch::new(|_| true).served.len(), METHODS.len());
    }
}
