//! URLs: parsed, joined, changed, with names in many scripts; a callback for what the parser frowns upon.

use std::cell::RefCell;

use url::form_urlencoded::Serializer;
use url::{Host, Position, SyntaxViolation, Url};

use crates::source::Source;

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let frowns = RefCell::new(Vec::new());
    let frown = |violation: SyntaxViolation| frowns.borrow_mut().push(format!("{violation:?}"));
    let hosts = ["Straße.DE", "日本.jp", "[::1:2]", "192.168.0x10", "xn--mnchen-3ya.de", "a.b.c"];
    let mut url = Url::parse(&format!("http://{}/", source.pick(&hosts))).unwrap();
    let mut out = String::new();
    for i in 0..12 {
        let text = match source.below(6) {
            0 => format!("../{}/./x{i}", source.words(2)),
            1 => format!("//{}:80\\a", source.pick(&hosts)),
            2 => format!("?{}={}#f", source.words(1), source.words(1)),
            3 => {
                format!("https://u:p@{}:{}/%7e/{}", source.pick(&hosts), source.below(70_000) % 65_536, source.words(1))
            }
            4 => "  file:///C|/dir/..\t/x ".to_owned(),
            _ => format!("y{i}/;z"),
        };
        url = match Url::options().base_url(Some(&url)).syntax_violation_callback(Some(&frown)).parse(&text) {
            Ok(url) => url,
            Err(error) => {
                out += &format!("{error} ");
                continue;
            }
        };
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&source.words(2)).extend(["a", "b/c"]).pop();
        }
        url.query_pairs_mut().append_pair("k&", &i.to_string()).extend_pairs([("x", "y z"), ("ü", "")]);
        let kind = match url.host() {
            Some(Host::Domain(name)) => name.len(),
            Some(Host::Ipv4(address)) => u32::from(address) as usize,
            Some(Host::Ipv6(address)) => address.segments()[7].into(),
            None => 0,
        };
        let pairs: Vec<_> = url.query_pairs().map(|(k, v)| format!("{k}:{v}")).collect();
        out += &format!(
            "{url} {kind} {:?} {} {pairs:?}\n",
            url.origin().ascii_serialization(),
            &url[Position::BeforePath..Position::AfterQuery]
        );
        assert_eq!(Url::parse(url.as_str()).unwrap(), url);
    }
    let form = Serializer::new(String::new()).append_pair("a b", "ß+").append_key_only("c").finish();
    let relative = Url::parse("http://x/a/b/c").unwrap().make_relative(&Url::parse("http://x/a/d?q").unwrap());
    format!("{out}{form} {relative:?} {:?}", frowns.into_inner())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
