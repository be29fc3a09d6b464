//! Negotiation: what the server says first, options, and the replies to them.

use crate::backend::ExportInfo;
use crate::limits::{EXPORT_NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::proto::wire::{
    OPTION_MAGIC, OPTION_REPLY_MAGIC, Reader, SERVER_MAGIC, handshake_flag, info, option_reply,
    transmission_flag,
};

/// Bytes of the head of an option.
pub(crate) const OPTION_HEAD_BYTES: usize = 16;

/// Bytes of the client's flags.
pub(crate) const CLIENT_FLAGS_BYTES: usize = 4;

/// The only metadata context that is served.
pub(crate) const BASE_ALLOCATION: &str = "base:allocation";

/// Its id in this server. Any value does.
pub(crate) const BASE_ALLOCATION_ID: u32 = 1;

/// Zeros that follow the reply to EXPORT_NAME unless the client waived them.
const EXPORT_NAME_PADDING_BYTES: usize = 124;

/// What a server sends before it has read anything.
pub(crate) fn encode_greeting(out: &mut Vec<u8>) {
    out.extend(SERVER_MAGIC.to_be_bytes());
    out.extend(OPTION_MAGIC.to_be_bytes());
    out.extend((handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES).to_be_bytes());
}

/// The head of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawOption {
    pub(crate) option: u32,
    pub(crate) len: u32,
}

impl RawOption {
    /// `None` when the magic is wrong.
    pub(crate) fn decode(bytes: &[u8; OPTION_HEAD_BYTES]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u64()? != OPTION_MAGIC {
            return None;
        }
        Some(Self { option: reader.u32()?, len: reader.u32()? })
    }
}

/// Why the data of an option is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadOption {
    /// The lengths inside do not add up, or a string is not UTF-8.
    Malformed,
    /// The export name is longer than the protocol allows.
    NameTooLong,
}

/// The data of INFO and GO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InfoRequest {
    pub(crate) name: String,
    pub(crate) wants: Wants,
}

/// Which items beyond `NBD_INFO_EXPORT` a client asked for. Unknown ones are ignored, as the protocol says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) name: bool,
    pub(crate) description: bool,
    pub(crate) block_size: bool,
}

impl InfoRequest {
    pub(crate) fn decode(data: &[u8]) -> Result<Self, BadOption> {
        let mut reader = Reader(data);
        let name = decode_name(reader.string())?;
        let mut wants = Wants::default();
        for _ in 0..reader.u16().ok_or(BadOption::Malformed)? {
            match reader.u16().ok_or(BadOption::Malformed)? {
                info::NAME => wants.name = true,
                info::DESCRIPTION => wants.description = true,
                info::BLOCK_SIZE => wants.block_size = true,
                _ => {}
            }
        }
        if reader.is_empty() { Ok(Self { name, wants }) } else { Err(BadOption::Malformed) }
    }
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaRequest {
    pub(crate) name: String,
    /// Whether there was no query at all.
    pub(crate) no_queries: bool,
    /// Whether a query names [`BASE_ALLOCATION`].
    pub(crate) exact: bool,
    /// Whether a query is the wildcard `base:`.
    pub(crate) wildcard: bool,
}

impl MetaRequest {
    pub(crate) fn decode(data: &[u8]) -> Result<Self, BadOption> {
        let mut reader = Reader(data);
        let name = decode_name(reader.string())?;
        let count = reader.u32().ok_or(BadOption::Malformed)?;
        let mut request = Self { name, no_queries: count == 0, exact: false, wildcard: false };
        for _ in 0..count {
            // Ends at the latest with the data, whatever the count says.
            let query = reader.string().ok_or(BadOption::Malformed)?;
            request.exact |= query == BASE_ALLOCATION.as_bytes();
            request.wildcard |= query == b"base:";
        }
        if reader.is_empty() { Ok(request) } else { Err(BadOption::Malformed) }
    }
}

/// Checks an export name.
pub(crate) fn decode_name(bytes: Option<&[u8]>) -> Result<String, BadOption> {
    let bytes = bytes.ok_or(BadOption::Malformed)?;
    if bytes.len() > EXPORT_NAME_BYTES_MAX {
        return Err(BadOption::NameTooLong);
    }
    let name = str::from_utf8(bytes).map_err(|_| BadOption::Malformed)?;
    Ok(name.to_owned())
}

/// One reply to an option. `parts` are its data.
pub(crate) fn encode_option_reply(out: &mut Vec<u8>, option: u32, reply: u32, parts: &[&[u8]]) {
    out.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(reply.to_be_bytes());
    out.extend(len_u32(parts.iter().map(|part| part.len()).sum()).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// An export in the reply to LIST.
pub(crate) fn encode_list_entry(out: &mut Vec<u8>, option: u32, export: &ExportInfo) {
    let name = export.name.as_bytes();
    let name_len = len_u32(name.len()).to_be_bytes();
    encode_option_reply(
        out,
        option,
        option_reply::SERVER,
        &[&name_len, name, bounded_text(&export.description)],
    );
}

/// The items of a successful INFO or GO, without the ACK.
pub(crate) fn encode_info(out: &mut Vec<u8>, option: u32, export: &ExportInfo, wants: Wants, flags: u16) {
    let mut item = |kind: u16, parts: [&[u8]; 3]| {
        let [first, second, third] = parts;
        encode_option_reply(out, option, option_reply::INFO, &[&kind.to_be_bytes(), first, second, third]);
    };
    item(info::EXPORT, [&export.size_bytes.to_be_bytes(), &flags.to_be_bytes(), &[]]);
    if wants.name {
        item(info::NAME, [export.name.as_bytes(), &[], &[]]);
    }
    if wants.description && !export.description.is_empty() {
        item(info::DESCRIPTION, [bounded_text(&export.description), &[], &[]]);
    }
    if wants.block_size {
        let max_block = export.max_block.min(PAYLOAD_BYTES_MAX);
        item(
            info::BLOCK_SIZE,
            [
                &export.min_block.to_be_bytes(),
                &export.preferred_block.to_be_bytes(),
                &max_block.to_be_bytes(),
            ],
        );
    }
}

/// The reply to EXPORT_NAME, which has no form of its own.
pub(crate) fn encode_export_name_reply(out: &mut Vec<u8>, size_bytes: u64, flags: u16, no_zeroes: bool) {
    out.extend(size_bytes.to_be_bytes());
    out.extend(flags.to_be_bytes());
    if !no_zeroes {
        out.extend([0; EXPORT_NAME_PADDING_BYTES]);
    }
}

/// The transmission flags of an export. DF makes sense with structured replies only.
pub(crate) fn transmission_flags(read_only: bool, structured: bool) -> u16 {
    use transmission_flag as flag;
    let common =
        flag::HAS_FLAGS | flag::SEND_FLUSH | flag::CAN_MULTI_CONN | flag::SEND_CACHE | flag::SEND_FUA;
    let writes = flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO;
    let by_access = if read_only { flag::READ_ONLY } else { writes };
    let by_replies = if structured { flag::SEND_DF } else { 0 };
    common | by_access | by_replies
}

/// A text for humans, cut off where the protocol's limit on strings falls.
pub(crate) fn bounded_text(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(EXPORT_NAME_BYTES_MAX)]
}

/// A length that the caller keeps far below 4 GiB (names and descriptions are bounded).
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info_data(name: &str, items: &[u16]) -> Vec<u8> {
        let mut data = Vec::new();
        data.extend(len_u32(name.len()).to_be_bytes());
        data.extend(name.as_bytes());
        data.extend(u16::try_from(items.len()).unwrap().to_be_bytes());
        items.iter().for_each(|item| data.extend(item.to_be_bytes()));
        data
    }

    #[test]
    fn decodes_info_requests() {
        let request = InfoRequest::decode(&info_data("vol", &[info::BLOCK_SIZE, 77])).unwrap();
        assert_eq!(request.name, "vol");
        assert_eq!(request.wants, Wants { block_size: true, ..Wants::default() });
    }

    #[test]
    fn refuses_bad_info_requests() {
        let good = info_data("vol", &[info::NAME, info::DESCRIPTION]);
        for cut in 0..good.len() {
            assert_eq!(InfoRequest::decode(&good[..cut]), Err(BadOption::Malformed), "cut at {cut}");
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(InfoRequest::decode(&longer), Err(BadOption::Malformed));
        let name = "n".repeat(EXPORT_NAME_BYTES_MAX + 1);
        assert_eq!(InfoRequest::decode(&info_data(&name, &[])), Err(BadOption::NameTooLong));
        assert_eq!(InfoRequest::decode(&[0, 0, 0, 1, 0xff, 0, 0]), Err(BadOption::Malformed), "not UTF-8");
    }

    #[test]
    fn a_count_of_queries_is_not_believed() {
        let data = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(MetaRequest::decode(&data), Err(BadOption::Malformed));
    }

    #[test]
    fn flags_follow_access_and_replies() {
        for (read_only, structured, want) in
            [(false, false, 0xd6d), (false, true, 0xded), (true, false, 0x50f), (true, true, 0x58f)]
        {
            assert_eq!(transmission_flags(read_only, structured), want, "{read_only} {structured}");
        }
    }
}
