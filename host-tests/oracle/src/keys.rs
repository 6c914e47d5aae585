//! Those who read keys: a topic exchange of AMQP 0-9-1 and a Redis server.

/// Whether a topic exchange gives a message with this routing key to a queue that was bound with this
/// binding key: `*` stands for one word, `#` for any number of them, words stand between dots.
#[must_use]
pub fn topic_matches(binding: &[u8], routing: &[u8]) -> bool {
    words_match(&words(binding), &words(routing))
}

fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() {
        return Vec::new();
    }
    key.split(|byte| *byte == b'.').collect()
}

fn words_match(binding: &[&[u8]], routing: &[&[u8]]) -> bool {
    match binding.split_first() {
        None => routing.is_empty(),
        Some((&b"#", rest)) => (0..=routing.len()).any(|taken| words_match(rest, &routing[taken..])),
        Some((first, rest)) => routing
            .split_first()
            .is_some_and(|(word, others)| (*first == b"*" || first == word) && words_match(rest, others)),
    }
}

/// Whether `KEYS`, `SCAN` or `PSUBSCRIBE` of Redis take this key for one of this pattern: `*` any bytes,
/// `?` one, `[…]` one of a set (`^` first: none of it, `-` a range), `\` takes its meaning from the next.
#[must_use]
pub fn glob_matches(pattern: &[u8], key: &[u8]) -> bool {
    match pattern.split_first() {
        None => key.is_empty(),
        Some((b'*', rest)) => (0..=key.len()).any(|taken| glob_matches(rest, &key[taken..])),
        Some((b'?', rest)) => key.split_first().is_some_and(|(_, others)| glob_matches(rest, others)),
        Some((b'[', rest)) => key.split_first().is_some_and(|(byte, others)| {
            let (is_in, behind) = class(rest, *byte);
            is_in && glob_matches(behind, others)
        }),
        Some((b'\\', rest)) if !rest.is_empty() => literal(rest, key),
        Some(_) => literal(pattern, key),
    }
}

fn literal(pattern: &[u8], key: &[u8]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (Some((wanted, rest)), Some((byte, others))) => wanted == byte && glob_matches(rest, others),
        _ => false,
    }
}

/// Whether a byte is in the set whose text begins here, and what stands behind the set. One that has no
/// end goes to the end of the pattern.
fn class(text: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_negated, mut rest) = match text.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, text),
    };
    let mut is_in = false;
    loop {
        match rest {
            [] => return (is_in != is_negated, rest),
            [b']', behind @ ..] => return (is_in != is_negated, behind),
            [b'\\', escaped, behind @ ..] => {
                is_in |= *escaped == byte;
                rest = behind;
            }
            [from, b'-', to, behind @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest = behind;
            }
            [one, behind @ ..] => {
                is_in |= *one == byte;
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_match_word_by_word() {
        for (binding, routing, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#.d", "a.b.c.d", true),
            ("a.#.d", "a.d", true),
            ("#.d", "a.b.e", false),
            ("#.*", "", false),
            ("a*", "ab", false),
        ] {
            assert_eq!(
                topic_matches(binding.as_bytes(), routing.as_bytes()),
                expected,
                "{binding} {routing}"
            );
        }
    }

    #[test]
    fn globs_match_as_redis_documents_it() {
        for (pattern, key, expected) in [
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "heello", false),
            ("h[\\]]", "h]", true),
            ("[ab", "a", true),
            ("a\\", "a\\", true),
            ("", "", true),
            ("*", "", true),
            ("tenant:a:*", "tenant:b:x", false),
        ] {
            assert_eq!(
                glob_matches(pattern.as_bytes(), key.as_bytes()),
                expected,
                "{pattern} {key}"
            );
        }
    }
}
