//! `api_keys`: secrets, literally or out of the VM's environment.

use super::*;

/// One or two keys of at most 4096 bytes, so that one can be replaced while the
/// other holds.
pub(super) fn api_keys(
    raw: Option<Vec<raw::RawSecret>>,
    at: &Pointer,
    faults: &mut Faults,
    env: &Environment,
) -> Option<Vec<Secret>> {
    let Some(keys) = raw else {
        faults.missing(at.clone(), "one or two of `{ value: … }` and `{ env: … }`");
        return None;
    };
    if !(1..=2).contains(&keys.len()) {
        faults.push_whole(
            at.clone(),
            Problem::Count {
                found: format!("{} keys", keys.len()),
                accepted: "one or two",
            },
        );
    }
    all(keys, |index, key| secret(key, &at.child(index), faults, env))
}

fn secret(raw: raw::RawSecret, at: &Pointer, faults: &mut Faults, env: &Environment) -> Option<Secret> {
    const ACCEPTED: &str = "either `value` or `env`, giving 1 to 4096 visible ASCII characters";
    let (place, text) = match (raw.value, raw.env) {
        (Some(value), None) => (at.child("value"), value),
        (None, Some(name)) => match env.var(&name) {
            None => {
                faults.unset(at.child("env"), env, &name);
                return None;
            }
            Some(text) => (at.child("env"), text.to_owned()),
        },
        (Some(_), Some(_)) => return faults.refuse(at.clone(), "both", ACCEPTED),
        (None, None) => {
            faults.missing(at.clone(), ACCEPTED);
            return None;
        }
    };
    if !(1..=4_096).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return faults.refuse(place, "an unusable value", ACCEPTED);
    }
    Some(Secret::new(text))
}
