//! Answers.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// A body that may come bit by bit.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", full(text))
}

/// JSON that is there already.
pub fn json(json: impl Into<Bytes>) -> Response<Body> {
    with_type(StatusCode::OK, "application/json", full(json))
}

/// A body that is made while it is sent.
pub fn stream(content_type: &'static str, parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response<Body> {
    let body = StreamBody::new(parts.map_ok(Frame::data).boxed());
    with_type(StatusCode::OK, content_type, BodyExt::boxed_unsync(body))
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
