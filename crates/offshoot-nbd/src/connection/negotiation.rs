//! From the client's flags to the choice of an export.

use super::{Connection, Event, InputBuffer, Phase, ProtocolError, Step, TlsPolicy};
use crate::backend::{ExportInfo, OpenError};
use crate::limits::{EXPORT_NAME_BYTES_MAX, OPTION_BYTES_MAX, OPTIONS_MAX, PAYLOAD_BYTES_MAX};
use crate::proto::handshake::{
    self, BASE_ALLOCATION, BASE_ALLOCATION_ID, BadOption, CLIENT_FLAGS_BYTES, InfoRequest, MetaRequest,
    OPTION_HEAD_BYTES, RawOption, Wants,
};
use crate::proto::transmission::Terms;
use crate::proto::wire::{handshake_flag, option, option_reply};

/// What the client has brought about so far.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    tls: TlsPolicy,
    /// Whether TLS was begun.
    secured: bool,
    fixed_newstyle: bool,
    no_zeroes: bool,
    structured: bool,
    /// The canonical name of the export for which `base:allocation` was selected.
    allocation_of: Option<String>,
    options_seen: u32,
}

impl Negotiation {
    pub(super) fn new(tls: TlsPolicy) -> Self {
        Self { tls, ..Self::default() }
    }

    /// Whether nothing but STARTTLS gets anywhere.
    fn lacks_tls(&self) -> bool {
        self.tls == TlsPolicy::Required && !self.secured
    }
}

/// What the caller was asked, and how to go on when it answers.
#[derive(Debug)]
pub(super) enum Question {
    List,
    ExportName,
    Info { option: u32, wants: Wants },
    Meta { option: u32, selects: bool },
}

/// What a client without TLS is told where that is required.
const TLS_FIRST: &str = "TLS is required here: STARTTLS comes first";

/// An error reply to an option, and words for humans.
struct Refusal(u32, &'static str);

impl From<BadOption> for Refusal {
    fn from(bad: BadOption) -> Self {
        match bad {
            BadOption::Malformed => Self(option_reply::ERR_INVALID, "malformed option"),
            BadOption::NameTooLong => Self(option_reply::ERR_TOO_BIG, "the export name is too long"),
        }
    }
}

impl Connection {
    /// One step of the negotiation.
    pub(super) fn step_negotiation(&mut self, input: &mut InputBuffer) -> Result<Step, ProtocolError> {
        if !self.has_room() {
            return Ok(Step::Stuck);
        }
        match self.phase {
            Phase::ClientFlags => self.take_client_flags(input),
            Phase::OptionHead => self.take_option_head(input),
            Phase::OptionData { option, len } => self.take_option_data(input, option, len),
            Phase::OptionDrain { option, left } => Ok(self.drain_option(input, option, left)),
            _ => Ok(Step::Stuck),
        }
    }

    fn take_client_flags(&mut self, input: &mut InputBuffer) -> Result<Step, ProtocolError> {
        let Some(bytes) = input.take_array::<CLIENT_FLAGS_BYTES>() else {
            return Ok(Step::Stuck);
        };
        let flags = u32::from_be_bytes(bytes);
        if flags & !(handshake_flag::C_FIXED_NEWSTYLE | handshake_flag::C_NO_ZEROES) != 0 {
            return Err(ProtocolError::ClientFlags { flags });
        }
        self.negotiation.fixed_newstyle = flags & handshake_flag::C_FIXED_NEWSTYLE != 0;
        self.negotiation.no_zeroes = flags & handshake_flag::C_NO_ZEROES != 0;
        self.phase = Phase::OptionHead;
        Ok(Step::Again)
    }

    fn take_option_head(&mut self, input: &mut InputBuffer) -> Result<Step, ProtocolError> {
        let Some(bytes) = input.take_array::<OPTION_HEAD_BYTES>() else {
            return Ok(Step::Stuck);
        };
        let raw = RawOption::decode(&bytes).ok_or(ProtocolError::OptionMagic)?;
        let option = raw.option;
        if !self.negotiation.fixed_newstyle && option != option::EXPORT_NAME {
            return Err(ProtocolError::NotFixedNewstyle { option });
        }
        self.negotiation.options_seen += 1;
        if self.negotiation.options_seen > OPTIONS_MAX {
            return Err(ProtocolError::TooManyOptions { max: OPTIONS_MAX });
        }
        let len = usize::try_from(raw.len).unwrap_or(usize::MAX);
        if option == option::EXPORT_NAME && len > EXPORT_NAME_BYTES_MAX {
            return Err(ProtocolError::ExportName { reason: format!("a name of {len} bytes") });
        }
        self.phase = if len > OPTION_BYTES_MAX {
            Phase::OptionDrain { option, left: u64::from(raw.len) }
        } else {
            Phase::OptionData { option, len }
        };
        Ok(Step::Again)
    }

    fn drain_option(&mut self, input: &mut InputBuffer, option: u32, left: u64) -> Step {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.bytes().len());
        input.consume(count);
        let left = left - count as u64;
        if left > 0 {
            self.phase = Phase::OptionDrain { option, left };
            return Step::Stuck;
        }
        self.phase = Phase::OptionHead;
        self.refuse(option, &Refusal(option_reply::ERR_TOO_BIG, "the option is too long"));
        Step::Again
    }

    fn take_option_data(
        &mut self,
        input: &mut InputBuffer,
        option: u32,
        len: usize,
    ) -> Result<Step, ProtocolError> {
        let Some(data) = input.bytes().get(..len) else {
            return Ok(Step::Stuck);
        };
        self.phase = Phase::OptionHead;
        let lacks_tls = self.negotiation.lacks_tls() && !matches!(option, option::STARTTLS | option::ABORT);
        let step = if option == option::EXPORT_NAME {
            if lacks_tls {
                return Err(ProtocolError::ExportName { reason: TLS_FIRST.to_owned() });
            }
            let name = handshake::decode_name(Some(data))
                .map_err(|_| ProtocolError::ExportName { reason: "the name is not UTF-8".to_owned() })?;
            self.phase = Phase::Answer(Question::ExportName);
            Step::Event(Event::Open { name })
        } else if lacks_tls {
            self.refuse(option, &Refusal(option_reply::ERR_TLS_REQD, TLS_FIRST));
            Step::Again
        } else {
            self.take_option(option, data).unwrap_or_else(|refusal| {
                self.refuse(option, &refusal);
                Step::Again
            })
        };
        input.consume(len);
        Ok(step)
    }

    /// Carries out an option of fixed newstyle negotiation.
    fn take_option(&mut self, option: u32, data: &[u8]) -> Result<Step, Refusal> {
        match option {
            option::ABORT => {
                self.reply(option, option_reply::ACK, &[]);
                self.phase = Phase::Finishing;
                Ok(Step::Again)
            }
            option::LIST => {
                must_be_empty(data)?;
                self.phase = Phase::Answer(Question::List);
                Ok(Step::Event(Event::ListExports))
            }
            option::STARTTLS => {
                must_be_empty(data)?;
                self.start_tls()
            }
            option::INFO | option::GO => {
                let InfoRequest { name, wants } = InfoRequest::decode(data)?;
                self.phase = Phase::Answer(Question::Info { option, wants });
                let opens = option == option::GO;
                Ok(Step::Event(if opens { Event::Open { name } } else { Event::LookUp { name } }))
            }
            option::STRUCTURED_REPLY => {
                must_be_empty(data)?;
                if std::mem::replace(&mut self.negotiation.structured, true) {
                    return Err(Refusal(option_reply::ERR_INVALID, "structured replies were agreed before"));
                }
                self.reply(option, option_reply::ACK, &[]);
                Ok(Step::Again)
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.take_meta(option, data),
            _ => Err(Refusal(option_reply::ERR_UNSUP, "unknown option")),
        }
    }

    fn start_tls(&mut self) -> Result<Step, Refusal> {
        let Negotiation { tls, secured, fixed_newstyle, no_zeroes, options_seen, .. } = self.negotiation;
        if tls == TlsPolicy::Unavailable {
            return Err(Refusal(option_reply::ERR_UNSUP, "this server does not speak TLS here"));
        }
        if secured {
            return Err(Refusal(option_reply::ERR_INVALID, "TLS was begun before"));
        }
        self.reply(option::STARTTLS, option_reply::ACK, &[]);
        // What was agreed before anybody was sure who is there does not count.
        self.negotiation =
            Negotiation { secured: true, fixed_newstyle, no_zeroes, options_seen, ..Negotiation::new(tls) };
        Ok(Step::Event(Event::StartTls))
    }

    fn take_meta(&mut self, option: u32, data: &[u8]) -> Result<Step, Refusal> {
        let sets = option == option::SET_META_CONTEXT;
        if sets {
            // Whatever becomes of this option, an earlier selection is gone.
            self.negotiation.allocation_of = None;
        }
        if !self.negotiation.structured {
            return Err(Refusal(option_reply::ERR_INVALID, "structured replies come first"));
        }
        let request = MetaRequest::decode(data)?;
        let selects = request.exact || (!sets && (request.no_queries || request.wildcard));
        self.phase = Phase::Answer(Question::Meta { option, selects });
        Ok(Step::Event(Event::LookUp { name: request.name }))
    }

    /// Answers LIST.
    pub(super) fn answer_exports(&mut self, exports: &[ExportInfo]) {
        if !matches!(self.phase, Phase::Answer(Question::List)) {
            return;
        }
        self.phase = Phase::OptionHead;
        for export in exports.iter().filter(|export| export.name.len() <= EXPORT_NAME_BYTES_MAX) {
            self.outbox.inline(|out| handshake::encode_list_entry(out, option::LIST, export));
        }
        self.reply(option::LIST, option_reply::ACK, &[]);
    }

    /// Answers whatever needed an export.
    pub(super) fn answer_export(
        &mut self,
        export: Result<&ExportInfo, &OpenError>,
    ) -> Result<(), ProtocolError> {
        let question = match std::mem::replace(&mut self.phase, Phase::OptionHead) {
            Phase::Answer(question) => question,
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        match (question, export) {
            (Question::ExportName, Ok(export)) => {
                self.begin_transmission(export);
                let (flags, no_zeroes) = (self.transmission_flags(export), self.negotiation.no_zeroes);
                let size_bytes = export.size_bytes;
                self.outbox
                    .inline(|out| handshake::encode_export_name_reply(out, size_bytes, flags, no_zeroes));
            }
            (Question::ExportName, Err(error)) => {
                return Err(ProtocolError::ExportName { reason: error.to_string() });
            }
            (Question::Info { option, wants }, Ok(export)) => {
                let flags = self.transmission_flags(export);
                self.outbox.inline(|out| handshake::encode_info(out, option, export, wants, flags));
                self.reply(option, option_reply::ACK, &[]);
                if option == option::GO {
                    self.begin_transmission(export);
                }
            }
            (Question::Meta { option, selects }, Ok(export)) => self.answer_meta(option, selects, export),
            (Question::Info { option, .. } | Question::Meta { option, .. }, Err(error)) => {
                self.reply(option, refusal_of(error), handshake::bounded_text(&error.to_string()));
            }
            (Question::List, _) => self.phase = Phase::Answer(Question::List),
        }
        Ok(())
    }

    fn answer_meta(&mut self, option: u32, selects: bool, export: &ExportInfo) {
        if selects {
            let sets = option == option::SET_META_CONTEXT;
            let id = if sets { BASE_ALLOCATION_ID } else { 0 };
            self.outbox.inline(|out| {
                let parts = [&id.to_be_bytes()[..], BASE_ALLOCATION.as_bytes()];
                handshake::encode_option_reply(out, option, option_reply::META_CONTEXT, &parts);
            });
            if sets {
                self.negotiation.allocation_of = Some(export.name.clone());
            }
        }
        self.reply(option, option_reply::ACK, &[]);
    }

    pub(super) fn begin_transmission(&mut self, export: &ExportInfo) {
        self.terms = Terms {
            size_bytes: export.size_bytes,
            payload_bytes: export.max_block.min(PAYLOAD_BYTES_MAX),
            read_only: export.read_only,
            structured: self.negotiation.structured,
            allocation: self.negotiation.allocation_of.as_ref() == Some(&export.name),
        };
        self.phase = Phase::Request;
    }

    fn transmission_flags(&self, export: &ExportInfo) -> u16 {
        handshake::transmission_flags(export.read_only, self.negotiation.structured)
    }

    fn reply(&mut self, option: u32, reply: u32, data: &[u8]) {
        self.outbox.inline(|out| handshake::encode_option_reply(out, option, reply, &[data]));
    }

    fn refuse(&mut self, option: u32, refusal: &Refusal) {
        self.reply(option, refusal.0, refusal.1.as_bytes());
    }
}

fn must_be_empty(data: &[u8]) -> Result<(), Refusal> {
    if data.is_empty() { Ok(()) } else { Err(Refusal(option_reply::ERR_INVALID, "the option takes no data")) }
}

fn refusal_of(error: &OpenError) -> u32 {
    match error {
        OpenError::NotFound => option_reply::ERR_UNKNOWN,
        OpenError::Refused { .. } => option_reply::ERR_POLICY,
        OpenError::ShuttingDown => option_reply::ERR_SHUTDOWN,
    }
}
