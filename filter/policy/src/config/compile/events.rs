//! `events`: where tenant events arrive, and who may send them.

use super::*;

pub(super) fn events(
    raw: raw::RawEvents,
    public: Option<&[PublicPath]>,
    at: &Pointer,
    faults: &mut Faults,
    env: &Environment,
) -> Option<Events> {
    let path = faults
        .required(at.child("path"), raw.path, PREFIX, |text| {
            Prefix::parse(text).map(|prefix| (prefix, text.to_owned()))
        })
        .and_then(|(prefix, path)| {
            if is_partly_public(public, &prefix) {
                return faults.refuse(
                    at.child("path"),
                    quoted(&path),
                    "a path that no public prefix covers and that covers none: a request to it must have one meaning",
                );
            }
            Some(path)
        });
    let api_keys = api_keys::api_keys(raw.api_keys, &at.child("api_keys"), faults, env);
    Some(Events {
        path: path?,
        api_keys: api_keys?,
    })
}
