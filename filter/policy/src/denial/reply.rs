//! What is sent instead of what was asked for.

use serde::Serialize;

const JSON: &str = "application/json; charset=utf-8";

/// A reply that the filter makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Response headers, `content-type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What a gRPC client gets instead of the status.
    pub grpc_status: u8,
    /// For the access log: the stable code, or what else it is.
    pub details: &'static str,
}

impl Reply {
    /// A reply of the filter itself to what it was asked: 200 with a JSON body.
    pub fn ok(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            headers: vec![
                ("content-type", JSON.to_owned()),
                ("cache-control", "no-store".to_owned()),
            ],
            body,
            grpc_status: 0,
            details: "EVENTS_CARRIED_OUT",
        }
    }

    /// A denial. A gRPC client gets the message alone: Envoy makes `grpc-message` of the body.
    pub(super) fn denying(status: u16, body: &Body<'_>, grpc: bool, details: &'static str) -> Self {
        let mut headers = Vec::with_capacity(4);
        if !grpc {
            headers.push(("content-type", JSON.to_owned()));
        }
        headers.push(("cache-control", "no-store".to_owned()));
        let body = if grpc {
            body.message.as_bytes().to_vec()
        } else {
            // Three strings always serialize.
            serde_json::to_vec(body).unwrap_or_default()
        };
        Self {
            status,
            headers,
            body,
            grpc_status: grpc_status(status),
            details,
        }
    }
}

/// The body of a denial: exactly these members, in this order.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub(super) code: &'a str,
    pub(super) title: &'a str,
    pub(super) message: &'a str,
}

/// The gRPC status that says what an HTTP status says.
///
/// It follows the HTTP mapping that `google.rpc.Code` documents, read backwards: of the codes that
/// map to 400, 409 and 500 those that fit a denial. Where no code maps to a status it is the one
/// for its class: a 4xx that the caller must not simply repeat is FAILED_PRECONDITION, a 5xx
/// INTERNAL. Two statuses are those of a proxy: 502, like 503, is UNAVAILABLE. The table by which a
/// gRPC *client* guesses a status for a reply without one (404 is UNIMPLEMENTED, 400 INTERNAL) is
/// not used: our replies have one.
fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 3,                    // INVALID_ARGUMENT
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 => 5,                    // NOT_FOUND
        409 => 10,                   // ABORTED
        429 => 8,                    // RESOURCE_EXHAUSTED
        501 => 12,                   // UNIMPLEMENTED
        502 | 503 => 14,             // UNAVAILABLE
        504 => 4,                    // DEADLINE_EXCEEDED
        status if status < 500 => 9, // FAILED_PRECONDITION, 422 among them
        _ => 13,                     // INTERNAL
    }
}

#[cfg(test)]
mod tests {
    use super::grpc_status;

    #[test]
    fn every_status_has_its_grpc_status() {
        let named = [
            (400, 3),
            (401, 16),
            (403, 7),
            (404, 5),
            (409, 10),
            (422, 9),
            (429, 8),
            (500, 13),
            (501, 12),
            (502, 14),
            (503, 14),
            (504, 4),
        ];
        for status in 400..=599 {
            let by_class = if status < 500 { 9 } else { 13 };
            let expected = named
                .iter()
                .find(|(named, _)| *named == status)
                .map_or(by_class, |(_, grpc)| *grpc);
            assert_eq!(grpc_status(status), expected, "{status}");
        }
    }
}
