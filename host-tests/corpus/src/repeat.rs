//! Long texts, written in short: `{a*250}` is 250 letters `a`.

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

/// The most characters that one of them stands for.
const MOST: usize = 100_000;

/// The same with every `{x*n}` written out, in texts and in names of members. `x` is one character, `n` a
/// number of at most 100 000. What is written otherwise stays as it is.
///
/// # Errors
/// When a number is above that, or two members of an object come to have one name.
pub fn repeated(json: Value) -> Result<Value> {
    Ok(match json {
        Value::String(text) => Value::String(written_out(&text)?),
        Value::Array(values) => Value::Array(values.into_iter().map(repeated).collect::<Result<_>>()?),
        Value::Object(members) => {
            let mut all = Map::new();
            for (name, member) in members {
                let name = written_out(&name)?;
                ensure!(!all.contains_key(&name), "two members are named `{name}`");
                all.insert(name, repeated(member)?);
            }
            Value::Object(all)
        }
        other => other,
    })
}

fn written_out(text: &str) -> Result<String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        whole.push_str(before);
        match short(after) {
            Some((letter, times, behind)) => {
                ensure!(times <= MOST, "{times} times `{letter}` is more than {MOST}");
                whole.extend(std::iter::repeat_n(letter, times));
                rest = behind;
            }
            None => {
                whole.push('{');
                rest = after;
            }
        }
    }
    whole.push_str(rest);
    Ok(whole)
}

/// What stands behind a `{`: a character, how often, and what follows the `}`.
fn short(after: &str) -> Option<(char, usize, &str)> {
    let (inside, behind) = after.split_once('}')?;
    let (letter, times) = inside.split_once('*').filter(|(letter, _)| !letter.is_empty())?;
    let mut letters = letter.chars();
    let letter = letters.next().filter(|_| letters.next().is_none())?;
    let is_number = !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large to be one is too large.
    is_number.then(|| (letter, times.parse().unwrap_or(usize::MAX), behind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_short_is_written_out_wherever_it_stands() {
        assert_eq!(
            repeated(json!({ "{t*3}": ["x{a*2}{b*1}y{c*0}", { "k": "{\u{ff}*2}" }], "n": 1 })).expect("short enough"),
            json!({ "ttt": ["xaaby", { "k": "\u{ff}\u{ff}" }], "n": 1 })
        );
    }

    #[test]
    fn what_is_written_otherwise_stays() {
        for text in [
            "{tenantId}",
            "{}",
            "{a*}",
            "{*2}",
            "{ab*2}",
            "{a*-1}",
            "{a*2",
            "a*2}",
            "{a*+2}",
            "{\"a\":\"b*2\"}",
        ] {
            assert_eq!(repeated(json!(text)).expect("nothing"), json!(text));
        }
        assert_eq!(repeated(json!("{{a*2}}")).expect("inner"), json!("{aa}"));
    }

    #[test]
    fn too_much_is_refused() {
        for text in ["{a*100001}", "{a*99999999999999999999999}"] {
            assert!(repeated(json!([text])).is_err(), "{text}");
        }
        assert!(repeated(json!({ "aa": 1, "{a*2}": 2 })).is_err());
    }
}
