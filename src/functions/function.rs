//! A function: its name, its route and its methods, as its `function.json` has them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use warp::http::Method;
use warp::path::FullPath;
use warp::{Filter, Rejection};

/// One HTTP-triggered function.
pub struct Function {
    /// The name of its folder.
    pub name: &'static str,
    /// Its route with the prefix and without a slash before it, such as `api/users/{id}`.
    pub route: &'static str,
    /// The methods that it takes.
    pub methods: &'static [Method],
}

/// The values of a route's parameters, percent-decoded.
#[derive(Debug, Default, PartialEq)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// The parameter's value; empty if the route has none of this name.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// A request that is for a function.
#[derive(Debug)]
pub struct Matched {
    /// The request's method.
    pub method: Method,
    /// The values of the route's parameters.
    pub params: Params,
}

impl Function {
    /// The parameters, if this path is the function's. Segments match without regard to case, after
    /// percent-decoding, and with or without a slash at the end, as the host's own routing does.
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

    /// The path of a call with these parameters.
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

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

/// Lets through the requests that are for this function.
pub fn route(
    function: &'static Function,
) -> impl Filter<Extract = (Matched,), Error = Rejection> + Clone + Send + Sync + 'static {
    warp::method().and(warp::path::full()).and_then(move |method: Method, path: FullPath| {
        let matched = match function.methods.contains(&method) {
            true => function.params(path.as_str()).map(|params| Matched { method, params }),
            false => None,
        };
        std::future::ready(matched.ok_or_else(warp::reject::not_found))
    })
}

/// Lets through `GET /`, which the host polls until the handler answers.
pub fn ping() -> impl Filter<Extract = (), Error = Rejection> + Clone + Send + Sync + 'static {
    warp::get().and(warp::path::end())
}

#[cfg(test)]
mod tests {
    use super::*;

    static GET: Function =
        Function { name: "users-get", route: "api/users/{id}", methods: &[Method::GET] };

    #[test]
    fn a_path_matches_as_the_host_matches_it() {
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
    fn a_path_that_is_built_is_matched_again() {
        for id in ["x1", "a/b", "ä %", "?#"] {
            let path = GET.path(|_| Some(id.to_owned())).unwrap();
            assert_eq!(GET.params(&path).unwrap().get("id"), id);
        }
    }
}
