//! Lists of any length in bounded memory: one page after the other, each let go before the next is asked for.

use kube::{Api, api::ListParams, core::ObjectMeta};
use miyako_api::answer;
use serde::de::DeserializeOwned;
use std::fmt;

/// Objects per page.
pub const PAGE: u32 = 500;

/// A list that took longer than the API server keeps a version is begun anew so many times.
const TRIES: usize = 3;

/// Reads all objects of a list page by page. `see` takes of each what is to be kept, into what `empty` begins with; a list
/// that expired on the way is begun anew with another such.
///
/// # Errors
/// The API server's answer.
pub async fn fold<K, T>(
    api: &Api<K>,
    params: &ListParams,
    empty: impl Fn() -> T,
    mut see: impl FnMut(&mut T, K),
) -> kube::Result<T>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let mut tries = 0;
    'anew: loop {
        tries += 1;
        let mut kept = empty();
        let mut params = params.clone().limit(PAGE);
        loop {
            let page = match api.list(&params).await {
                Err(error) if answer::is_expired(&error) && tries < TRIES => continue 'anew,
                answer => answer?,
            };
            page.items.into_iter().for_each(|object| see(&mut kept, object));
            match next(page.metadata.continue_) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(kept),
            }
        }
    }
}

/// The metadata of all objects of a list, read page by page.
///
/// # Errors
/// The API server's answer.
pub async fn metadata<K>(api: &Api<K>, params: &ListParams) -> kube::Result<Vec<ObjectMeta>>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let mut tries = 0;
    'anew: loop {
        tries += 1;
        let mut kept = Vec::new();
        let mut params = params.clone().limit(PAGE);
        loop {
            let page = match api.list_metadata(&params).await {
                Err(error) if answer::is_expired(&error) && tries < TRIES => continue 'anew,
                answer => answer?,
            };
            kept.extend(page.items.into_iter().map(|object| object.metadata));
            match next(page.metadata.continue_) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(kept),
            }
        }
    }
}

fn next(token: Option<String>) -> Option<String> {
    token.filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::{ApiError, ApiServer, Fault, Options, RequestInfo, Verb};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;
    use serde_json::json;

    /// More than two pages.
    const MANY: usize = 1_234;

    fn server() -> ApiServer {
        let server = ApiServer::new(Options::default());
        for index in 0..MANY {
            let name = format!("map-{index:05}");
            let map =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
            server.create("setup", map).unwrap();
        }
        server
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_seen_and_no_answer_holds_more_than_a_page() {
        let server = server();
        let api: Api<ConfigMap> = Api::all(server.client("reader"));
        let names =
            fold(&api, &ListParams::default(), Vec::new, |names, map| names.push(map.name_any())).await.unwrap();
        assert_eq!(names.len(), MANY);
        assert_eq!((names[0].as_str(), names[MANY - 1].as_str()), ("map-00000", "map-01233"));
        assert_eq!(metadata(&api, &ListParams::default()).await.unwrap().len(), MANY);
        assert_eq!(server.longest_list("reader", "configmaps"), PAGE as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_expires_on_the_way_is_begun_anew_and_nothing_counts_twice() {
        let server = server();
        let mut lists = 0;
        server.set_faults(Some(Box::new(move |request: &RequestInfo| {
            lists += u32::from(request.verb == Verb::List);
            let expired = ApiError::expired("The provided continue parameter is too old");
            (lists == 2).then_some(Fault::Refuse(expired))
        })));
        let api: Api<ConfigMap> = Api::all(server.client("reader"));
        let count = fold(&api, &ListParams::default(), || 0, |count, _| *count += 1).await.unwrap();
        assert_eq!(count, MANY);
    }
}
