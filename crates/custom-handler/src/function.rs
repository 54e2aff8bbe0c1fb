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

    #[test]
    fn a_path_needs_all_parameters() {
        assert_eq!(GET.path(|_| None), None);
    }
}
