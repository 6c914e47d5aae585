//! Envoy's side of the filter: which callback is due, and what its answer holds or lets go.
//!
//! Both directions of a stream follow the same rules, those of Envoy's filter manager with this
//! plugin as the only filter.

use crate::callbacks::{Service, Verdict, size};
use crate::envoy::TinyEnvoy;
use crate::headers::HeaderMap;
use crate::interleave::{Access, Op, Place};
use crate::stream::{Iteration, Side, StreamId};

impl TinyEnvoy {
    /// A request arrives: a context is made for it, then its headers are shown.
    pub(crate) fn accept(&mut self, id: StreamId, headers: HeaderMap, ends: bool) {
        let worker = self.node.lock().stream(id).worker;
        self.node.lock().stream(id).configuration = self.vms[&worker].serving.number;
        let root = match self.revive(worker) {
            Service::Plugin { root } => root,
            Service::Skipped => {
                self.show_headers(id, Side::Request, headers, ends);
                return;
            }
            Service::Refused => {
                self.node.lock().stream(id).request.headers = headers;
                self.reply(id, 503, "", "wasm_fail_stream");
                return;
            }
        };
        let guest = self.vm(worker).data_mut();
        guest.last_context += 1;
        let (vm, context) = (guest.vm, guest.last_context);
        guest.contexts.insert(context, (id, root));
        self.node.lock().stream(id).context = Some((vm, context));
        if self
            .notify(vm, context, "proxy_on_context_create", (context, root))
            .is_err()
        {
            self.fail(id);
            return;
        }
        self.show_headers(id, Side::Request, headers, ends);
    }

    pub(crate) fn show_headers(&mut self, id: StreamId, side: Side, headers: HeaderMap, ends: bool) {
        let (count, allows_stop_iteration) = {
            let mut node = self.node.lock();
            let half = node.stream(id).half(side);
            half.headers = match side {
                Side::Request => headers,
                Side::Response => headers.into_response(),
            };
            half.headers_readable = true;
            half.ended = ends;
            half.ended_with_headers = ends;
            let count = size(half.headers.len());
            (count, node.options.allow_on_headers_stop_iteration)
        };
        let name = match side {
            Side::Request => "proxy_on_request_headers",
            Side::Response => "proxy_on_response_headers",
        };
        let verdict = self.ask(id, side, name, |context| (context, count, u32::from(ends)));
        match verdict {
            Verdict::Continue => {
                self.node.lock().stream(id).half(side).headers_readable = false;
                self.let_go_headers(id, side);
            }
            Verdict::Pause if allows_stop_iteration => {
                self.node.lock().stream(id).half(side).iteration = Iteration::StopSingle;
            }
            Verdict::Pause | Verdict::Stop => {
                let iteration = Iteration::StopAll;
                self.node.lock().stream(id).half(side).iteration = iteration;
            }
            Verdict::Over => {}
        }
    }

    pub(crate) fn show_body(&mut self, id: StreamId, side: Side, bytes: Vec<u8>, ends: bool) {
        let length = {
            let mut node = self.node.lock();
            let half = node.stream(id).half(side);
            if half.closed {
                return;
            }
            half.ended |= ends;
            half.end_shown = ends;
            if half.iteration == Iteration::StopAll {
                half.held.extend(bytes);
                return;
            }
            if half.buffering {
                half.buffered.extend(bytes);
            } else {
                half.current = bytes;
                half.current_readable = true;
            }
            size(half.body().map_or(0, |body| body.len()))
        };
        let name = match side {
            Side::Request => "proxy_on_request_body",
            Side::Response => "proxy_on_response_body",
        };
        let verdict = self.ask(id, side, name, |context| (context, length, u32::from(ends)));
        let mut node = self.node.lock();
        let limit = node.options.buffer_limit;
        let half = node.stream(id).half(side);
        let was_held = half.iteration != Iteration::Continue;
        half.buffering = false;
        match verdict {
            Verdict::Continue if was_held => {
                // The answer to a piece of body lets everything go that was held before it.
                let mut current = std::mem::take(&mut half.current);
                half.buffered.append(&mut current);
                half.current_readable = false;
                half.iteration = Iteration::Continue;
                drop(node);
                self.let_go(id, side);
            }
            Verdict::Continue => {
                half.current_readable = false;
                let mut passing = std::mem::take(&mut half.buffered);
                passing.append(&mut half.current);
                half.sent.body.append(&mut passing);
                half.send_trailers();
                drop(node);
                if self.fits_buffer_filter(id, side) && ends {
                    self.complete(id, side);
                }
            }
            Verdict::Pause | Verdict::Stop => {
                half.iteration = Iteration::StopSingle;
                half.buffering = true;
                let mut current = std::mem::take(&mut half.current);
                half.buffered.append(&mut current);
                let is_over = half.buffered.len() > limit;
                let stream = node.stream(id);
                if is_over && side == Side::Response {
                    stream.details = Some("response_payload_too_large".to_owned());
                    drop(node);
                    self.give_up_response(id);
                    return;
                }
                drop(node);
                if is_over {
                    self.reply(id, 413, "Payload Too Large", "request_payload_too_large");
                }
            }
            Verdict::Over => {}
        }
    }

    pub(crate) fn show_trailers(&mut self, id: StreamId, side: Side, trailers: HeaderMap) {
        let count = {
            let mut node = self.node.lock();
            let half = node.stream(id).half(side);
            if half.closed {
                return;
            }
            half.ended = true;
            let count = size(trailers.len());
            half.trailers = Some(trailers);
            if half.iteration == Iteration::StopAll {
                return;
            }
            half.trailers_shown = true;
            half.trailers_readable = true;
            count
        };
        let name = match side {
            Side::Request => "proxy_on_request_trailers",
            Side::Response => "proxy_on_response_trailers",
        };
        match self.ask(id, side, name, |context| (context, count)) {
            Verdict::Continue => {
                {
                    let mut node = self.node.lock();
                    let half = node.stream(id).half(side);
                    half.trailers_readable = false;
                    half.iteration = Iteration::Continue;
                }
                self.let_go(id, side);
            }
            Verdict::Pause | Verdict::Stop => {
                self.node.lock().stream(id).half(side).iteration = Iteration::StopSingle;
            }
            Verdict::Over => {}
        }
    }

    /// The plugin resumes a direction that it paused.
    pub(crate) fn resume(&mut self, id: StreamId, side: Side) {
        let (was, held, ended, ended_with_headers, trailers) = {
            let mut node = self.node.lock();
            let half = node.stream(id).half(side);
            half.resumed = true;
            if half.closed || half.iteration == Iteration::Continue {
                return;
            }
            let was = std::mem::take(&mut half.iteration);
            let trailers = if half.trailers_shown {
                None
            } else {
                half.trailers.take()
            };
            let held = std::mem::take(&mut half.held);
            (was, held, half.ended, half.ended_with_headers, trailers)
        };
        if was == Iteration::StopSingle {
            self.let_go(id, side);
            return;
        }
        if ended_with_headers {
            self.let_go(id, side);
            return;
        }
        // What arrived while everything was held is still to be shown.
        if !self.let_go_headers_only(id, side) {
            return;
        }
        let ends_with_body = ended && trailers.is_none();
        if !held.is_empty() || ends_with_body {
            self.show_body(id, side, held, ends_with_body);
        }
        if let Some(trailers) = trailers {
            self.show_trailers(id, side, trailers);
        }
    }

    /// A response cannot be held any longer: it is replaced while its head has not left, and broken off
    /// behind that.
    fn give_up_response(&mut self, id: StreamId) {
        if self.node.lock().stream(id).response.sent.started {
            self.finish(id);
        } else {
            self.reply(id, 500, "Internal Server Error", "response_payload_too_large");
        }
    }

    fn let_go_headers(&mut self, id: StreamId, side: Side) {
        let ended = self.node.lock().stream(id).half(side).ended;
        if self.let_go_headers_only(id, side) && ended {
            self.complete(id, side);
        }
    }

    /// Lets everything go on that this direction holds and the plugin has seen.
    fn let_go(&mut self, id: StreamId, side: Side) {
        if !self.let_go_headers_only(id, side) {
            return;
        }
        let is_complete = {
            let mut node = self.node.lock();
            let half = node.stream(id).half(side);
            half.buffering = false;
            let mut body = std::mem::take(&mut half.buffered);
            half.sent.body.append(&mut body);
            half.send_trailers();
            half.ended
        };
        if self.fits_buffer_filter(id, side) && is_complete {
            self.complete(id, side);
        }
    }

    /// False when a buffer filter behind the plugin has refused the body that came through.
    fn fits_buffer_filter(&mut self, id: StreamId, side: Side) -> bool {
        let fits = {
            let mut node = self.node.lock();
            let most = node.options.buffer_filter.unwrap_or(usize::MAX);
            side == Side::Response || node.stream(id).request.sent.body.len() <= most
        };
        if !fits {
            self.reply(id, 413, "Payload Too Large", "request_payload_too_large");
        }
        fits
    }

    /// False when the headers could not go on and the stream was answered instead.
    fn let_go_headers_only(&mut self, id: StreamId, side: Side) -> bool {
        let refusal = {
            let mut node = self.node.lock();
            let half = node.stream(id).half(side);
            if half.closed {
                return false;
            }
            if half.sent.started {
                return true;
            }
            let headers = &half.headers;
            match side {
                Side::Response if headers.get(":status").is_none() => Some((502, String::new(), "missing_status")),
                Side::Response => None,
                // What the connection manager has set decides whether there is a route at all.
                Side::Request if headers.get("x-forwarded-proto").is_none() => {
                    Some((404, String::new(), "route_not_found"))
                }
                Side::Request if headers.get(":method").is_none() => Some((503, String::new(), "missing_method")),
                Side::Request if headers.get(":path").is_none() && headers.get(":method") != Some(b"CONNECT") => {
                    Some((404, String::new(), "route_not_found"))
                }
                Side::Request => headers
                    .unwritable()
                    .map(|why| (503, why, "upstream_reset_before_response_started")),
            }
        };
        if let Some((status, body, details)) = refusal {
            self.reply(id, status, &body, details);
            return false;
        }
        let mut node = self.node.lock();
        let half = node.stream(id).half(side);
        half.sent.started = true;
        half.sent.headers = half.headers.clone();
        true
    }

    /// Everything of this direction has gone on.
    pub(crate) fn complete(&mut self, id: StreamId, side: Side) {
        let (request, upstream, is_answered) = {
            let mut node = self.node.lock();
            let upstream = node.upstream.clone();
            let half = node.stream(id).half(side);
            if half.closed || half.sent.complete {
                return;
            }
            half.sent.complete = true;
            half.closed = true;
            let stream = node.stream(id);
            (
                stream.upstream_request().unwrap_or_default(),
                upstream,
                stream.is_answered,
            )
        };
        if side == Side::Response {
            self.finish(id);
            return;
        }
        self.point(|| Op::new("forward", Place::Upstream, Access::Write));
        if is_answered {
            return;
        }
        let answer = upstream.lock().answer(&request);
        self.plan_answer(id, answer);
    }
    /// The stream is over: it is logged, and its context deleted.
    pub(crate) fn finish(&mut self, id: StreamId) {
        let context = {
            let mut node = self.node.lock();
            let stream = node.stream(id);
            if stream.finished {
                return;
            }
            stream.finished = true;
            stream.request.closed = true;
            stream.response.closed = true;
            stream.request.hide();
            stream.response.hide();
            stream.is_logging = true;
            stream.context
        };
        let Some((vm, context)) = context else { return };
        let logged = self.notify(vm, context, "proxy_on_log", context);
        self.node.lock().stream(id).is_logging = false;
        if logged.is_err() {
            return;
        }
        // Envoy deletes HTTP contexts whatever `proxy_on_done` returns.
        if self
            .callback::<u32, u32>(vm, context, "proxy_on_done", context)
            .is_err()
        {
            return;
        }
        let _deleted = self.notify(vm, context, "proxy_on_delete", context);
        self.vm(vm.worker).data_mut().contexts.remove(&context);
    }
}
