//! Internal redirects: the router sends a request through the filters again instead of passing a
//! redirect on.

use crate::envoy::TinyEnvoy;
use crate::headers::HeaderMap;
use crate::stream::StreamId;

impl TinyEnvoy {
    /// Follows a redirect, if this response is one and there are any left. The pass that it ends is
    /// over before the next one begins.
    pub(crate) fn redirect(&mut self, id: StreamId, response: &HeaderMap) -> bool {
        let Some((scheme, authority, path)) = target(response) else {
            return false;
        };
        let (worker, mut headers, body, properties, state, redirects) = {
            let mut node = self.node.lock();
            let most = node.options.internal_redirects;
            let stream = node.stream(id);
            let mut headers = stream.request.sent.headers.clone();
            let part = |name| headers.get(name).unwrap_or_default();
            if stream.redirects >= most || !stream.request.sent.complete || part(":scheme") != scheme.as_bytes() {
                return false;
            }
            let original = [part(":scheme"), b"://", part(":authority"), part(":path")].concat();
            headers.set("x-envoy-original-url", original);
            headers.set(":authority", authority);
            headers.set(":path", path);
            // What the plugin sees when it logs this pass: where it was sent, and by what.
            stream.request.headers = headers.clone();
            stream.response.headers = response.clone().into_response();
            (
                stream.worker,
                headers,
                stream.request.sent.body.clone(),
                stream.properties.clone(),
                stream.filter_state.for_next_pass(),
                stream.redirects + 1,
            )
        };
        self.finish(id);
        let ends = body.is_empty();
        let next = self.add_stream(worker, &mut headers, properties);
        {
            let mut node = self.node.lock();
            node.stream(id).next_pass = Some(next);
            let stream = node.stream(next);
            stream.filter_state = state;
            stream.redirects = redirects;
        }
        self.accept(next, headers, ends);
        if !ends {
            self.body(next, &body, true);
        }
        true
    }
}

/// Scheme, authority, and path with query of where a 302 leads, if it says so in full. To Envoy a
/// query needs a path before it.
fn target(response: &HeaderMap) -> Option<(String, String, String)> {
    if response.get(":status") != Some(b"302") {
        return None;
    }
    let location = response.text("location")?;
    let (scheme, rest) = location.split_once("://")?;
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_whole = !authority.is_empty() && !authority.contains('?');
    let path = if path.is_empty() { "/" } else { path };
    is_whole.then(|| (scheme.to_owned(), authority.to_owned(), path.to_owned()))
}
