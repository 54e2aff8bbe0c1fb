//! A function: its name, its route and its methods, as its `function.json` has them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use warp::http::Method;

/// An HTTP-triggered function, as its `function.json` describes it.
#[derive(Clone, Debug)]
pub struct Function {
    /// The name of the function's folder.
    pub name: &'static str,
    /// The route with the route prefix and without a leading slash, such as `api/users/{id}`.
    ///
    /// A segment is either literal text or one parameter in braces. Constraints, defaults, optional
    /// parameters and catch-all parameters are not supported.
    pub route: &'static str,
    /// The methods that the function accepts.
    pub methods: &'static [Method],
    /// The largest request body, in bytes. With 0 the body is not read, and the function is called
    /// with an empty one.
    pub body_limit: usize,
}

/// The values of a route's parameters, percent-decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// The value of a parameter; empty if the route has no parameter of this name.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

impl Function {
    /// The values of the route's parameters, or `None` if this path is not the function's.
    ///
    /// Segments match without regard to case, after percent-decoding, and with or without a slash at
    /// the end, as in the host's own routing.
    pub fn params(&self, path: &str) -> Option<Params> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
        let mut params = Params::default();
        for expected in self.route.split('/') {
            let segment = decode(segments.next()?);
            match parameter(expected) {
                Some(name) if !segment.is_empty() => params.0.push((name, segment.into_owned())),
                None if segment.eq_ignore_ascii_case(expected) => {}
                _ => return None,
            }
        }
        segments.next().is_none().then_some(params)
    }

    /// The path of a call with these parameters, percent-encoded and with a leading slash, or `None`
    /// if `param` has no value for one of them.
    pub fn path(&self, param: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut path = String::new();
        for segment in self.route.split('/') {
            path.push('/');
            match parameter(segment) {
                Some(name) => path.extend(percent_encoding::utf8_percent_encode(
                    &param(name)?,
                    percent_encoding::NON_ALPHANUMERIC,
                )),
                None => path.push_str(segment),
            }
        }
        Some(path)
    }
}

/// A table of endpoints that need nothing but the function can be a table of functions.
impl AsRef<Function> for Function {
    fn as_ref(&self) -> &Function {
        self
    }
}

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn decode(segment: &str) -> Cow<'_, str> {
    // Nearly all segments have no escapes: to find that out here is cheaper than to decode them.
    match segment.contains('%') {
        true => percent_decode_str(segment).decode_utf8_lossy(),
        false => Cow::Borrowed(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static GET: Function = Function {
        name: "users-get",
        route: "api/users/{id}",
        methods: &[Method::GET],
        body_limit: 0,
    };

    #[test]
    fn a_path_matches_as_in_the_host() {
        for path in ["/api/users/x1", "/API/Users/x1", "/api/users/x1/", "/%61pi/us%65rs/%781"] {
            assert_eq!(
                GET.params(path).map(|params| params.get("id").to_owned()),
                Some("x1".into())
            );
        }
        for path in [
            "/",
            "/api",
            "/api/users",
            "/api/users/",
            "/api/users/x/y",
            "/api/users//",
            "//api/users/x",
        ] {
            assert_eq!(GET.params(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_built_from_parameters_matches_with_the_same_parameters() {
        for id in ["x1", "a/b", "ä %", "?#"] {
            let path = GET.path(|_| Some(id.to_owned())).unwrap();
            assert_eq!(GET.params(&path).unwrap().get("id"), id);
        }
    }

    /// A path by the words of the documentation: decoded segments, and one empty one at the end at most.
    fn segments(path: &str) -> Vec<String> {
        let mut segments: Vec<_> = path.split('/').collect();
        if segments[0].is_empty() && segments.len() > 1 {
            segments.remove(0);
        }
        if segments.len() > 1 && segments.last().is_some_and(|last| last.is_empty()) {
            segments.pop();
        }
        let decoded = |segment: &&str| {
            let mut bytes = Vec::new();
            let mut rest = segment.as_bytes();
            while let [first, others @ ..] = rest {
                let hex = others.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                (rest, _) = match (first, hex) {
                    (b'%', Some(hex)) => {
                        let hex = std::str::from_utf8(hex).unwrap();
                        (&others[2..], bytes.push(u8::from_str_radix(hex, 16).unwrap()))
                    }
                    _ => (others, bytes.push(*first)),
                };
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        segments.iter().map(decoded).collect()
    }

    #[test]
    fn fuzz_a_path_is_a_functions_if_its_segments_are_those_of_the_route() {
        let examples =
            ["/api/users/x1", "/API/Users/x1/", "/%61pi/us%65rs/%781", "/api/users/%ff%2f", "x"];
        fuzzing::check!(text, &examples, |path| {
            let expected = match &segments(path)[..] {
                [api, users, id]
                    if api.eq_ignore_ascii_case("api")
                        && users.eq_ignore_ascii_case("users")
                        && !id.is_empty() =>
                {
                    Some(id.clone())
                }
                _ => None,
            };
            let params = GET.params(path);
            assert_eq!(params.as_ref().map(|params| params.get("id").to_owned()), expected);
            if let Some(params) = params {
                let written = GET.path(|name| Some(params.get(name).to_owned())).unwrap();
                assert_eq!(GET.params(&written), Some(params));
            }
        });
    }

    #[test]
    fn a_path_needs_all_parameters() {
        assert_eq!(GET.path(|_| None), None);
    }
}
