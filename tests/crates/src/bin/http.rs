//! Messages: builders, header maps with collisions, extensions, URIs; errors.

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};

use crates::source::{Source, hash};

#[derive(Clone, Debug, PartialEq)]
struct Trace(Vec<u64>);

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut headers = HeaderMap::new();
    for i in 0..150 {
        let name = HeaderName::from_bytes(format!("X-{}-{}", source.below(60), i % 3).as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(&format!("v{i}")).unwrap());
    }
    let several = headers.keys().filter(|name| headers.get_all(*name).iter().count() > 1).count();
    headers.entry("x-new").or_insert_with(|| HeaderValue::from(source.below(99))).set_sensitive(true);
    let removed = (0..20).filter_map(|i| headers.remove(format!("x-{i}-0"))).count();
    let mut all: Vec<String> = headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    all.sort_by(|a, b| b.cmp(a));
    let mut request = Request::builder()
        .method(Method::from_bytes(b"PURGE").unwrap())
        .uri(format!("https://user@example.org:8443/a/{}?q={}&r=%20", source.below(10), source.below(10)))
        .version(Version::HTTP_2)
        .header(ACCEPT, "text/*;q=0.3")
        .extension(Trace(vec![seed]))
        .body(source.words(3))
        .unwrap();
    request.extensions_mut().get_mut::<Trace>().unwrap().0.push(1);
    let (mut parts, body) = request.into_parts();
    let mut uri = parts.uri.into_parts();
    uri.path_and_query = Some(PathAndQuery::from_static("/other?x"));
    parts.uri = Uri::from_parts(uri).unwrap();
    let request = Request::from_parts(parts, body.len()).map(|length| length * 2);
    let response = Response::builder().status(StatusCode::IM_A_TEAPOT).header("bad header", "x").body(());
    let errors: Vec<String> = [
        response.map(|_| ()).map_err(|e| e.to_string()),
        "http://[::1".parse::<Uri>().map(|_| ()).map_err(|e| e.to_string()),
        HeaderValue::from_bytes(b"a\nb").map(|_| ()).map_err(|e| e.to_string()),
        StatusCode::from_u16(1000).map(|_| ()).map_err(|e| e.to_string()),
        "ftp://x y/".parse::<Uri>().map(|_| ()).map_err(|e| e.to_string()),
    ]
    .into_iter()
    .map(Result::unwrap_err)
    .collect();
    format!("{several} {removed} {:x} {request:?} {errors:?}", hash(all.join("\n").as_bytes()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
