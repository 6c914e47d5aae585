//! The serialised form of header maps in the ABI.

use crate::headers::HeaderMap;

/// More pairs than this are read as none at all.
const MAX_PAIRS: usize = 1024;
/// A longer serialised map is read as none at all.
const MAX_BYTES: usize = 1024 * 1024;

/// Pairs as the guest gave them; none when they are malformed or too many, like Envoy does it.
pub(crate) fn parse(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    if bytes.len() > MAX_BYTES {
        return Vec::new();
    }
    try_parse(bytes).unwrap_or_default()
}

fn try_parse(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let number = |at: usize| -> Option<usize> {
        let word = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(word.try_into().ok()?)).ok()
    };
    let count = number(0)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut at = 4 + count * 8;
    let mut take = |length: usize| -> Option<Vec<u8>> {
        let end = at.checked_add(length)?;
        let text = bytes.get(at..end)?.to_vec();
        (bytes.get(end) == Some(&0)).then_some(())?;
        at = end + 1;
        Some(text)
    };
    (0..count)
        .map(|index| Some((take(number(4 + index * 8)?)?, take(number(8 + index * 8)?)?)))
        .collect()
}

/// A header map as the guest gets it; no bytes at all for an empty map.
pub(crate) fn serialize(map: &HeaderMap) -> Vec<u8> {
    if map.is_empty() {
        return Vec::new();
    }
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = word(map.len()).to_vec();
    for (name, value) in map.iter() {
        bytes.extend(word(name.len()));
        bytes.extend(word(value.len()));
    }
    for (name, value) in map.iter() {
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(count: usize) -> HeaderMap {
        (0..count).map(|n| (format!("x-{n}"), n.to_string())).collect()
    }

    #[test]
    fn what_is_serialised_is_parsed_back() {
        let mut headers = map(2);
        headers.add("x-raw", [0xff, 0]);
        assert_eq!(parse(&serialize(&headers)).into_iter().collect::<HeaderMap>(), headers);
    }

    #[test]
    fn more_than_1024_pairs_and_malformed_ones_are_none() {
        assert_eq!(parse(&serialize(&map(1024))).len(), 1024);
        assert_eq!(parse(&serialize(&map(1025))), []);
        let whole = serialize(&map(3));
        assert_eq!(parse(&whole[..whole.len() - 1]), []);
    }
}
