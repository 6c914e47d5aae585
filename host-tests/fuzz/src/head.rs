//! Heads of requests and responses, as lines of an input.

use oracle::head::Line;
use tenant_policy::request::Field;
use tenant_policy::scope::Edit;

/// The lines of an input, `name:value` each; a colon at the beginning belongs to the name.
#[must_use]
pub fn lines(input: &[u8]) -> Vec<Line> {
    let line = |line: &[u8]| {
        let colon = line.iter().skip(1).position(|byte| *byte == b':').map(|at| at + 1);
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        (name.to_vec(), value.get(1..).unwrap_or_default().to_vec())
    };
    let is_line = |line: &&[u8]| !line.is_empty();
    input.split(|byte| *byte == b'\n').filter(is_line).map(line).collect()
}

/// The same for the engine.
#[must_use]
pub fn fields(lines: &[Line]) -> Vec<Field<'_>> {
    lines.iter().map(|(name, value)| (&name[..], &value[..])).collect()
}

/// What a host makes of the lines: names are the same in any case.
#[must_use]
pub fn edited(lines: &[Line], edits: &[Edit]) -> Vec<Line> {
    let mut lines = lines.to_vec();
    for edit in edits {
        match edit {
            Edit::Remove(name) => lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name)),
            Edit::Set(name, value) => {
                lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
                lines.push((name.clone(), value.clone()));
            }
            Edit::Add(name, value) => lines.push((name.clone(), value.clone())),
        }
    }
    lines
}

/// In an order that does not say more than HTTP does: of names that are not the same there is none.
#[must_use]
pub fn ordered(mut lines: Vec<Line>) -> Vec<Line> {
    for (name, _) in &mut lines {
        name.make_ascii_lowercase();
    }
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    lines
}
