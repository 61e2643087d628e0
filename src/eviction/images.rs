//! Makes room on the disk of images: those that nothing uses go (upstream: `image_gc_manager.go`, `DeleteUnusedImages`).

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec;
use crate::runtime::{Image, ObservedPod, Result, Runtime};

/// Removes images that no container was made from and that no pod of the node asks for. Says whether any went.
pub async fn remove_unused(runtime: &dyn Runtime, pods: &[impl AsRef<Pod>]) -> Result<bool> {
    // In this order: a container that is made in between is seen, or its image is.
    let images = runtime.images().await?;
    let observed = runtime.list_pods().await?;
    let mut any = false;
    for image in unused(&images, &observed, pods) {
        match runtime.remove_image(&image.id).await {
            Ok(()) => {
                tracing::info!(image = %image.id, names = ?image.tags, bytes = image.size, "Removed an image that nothing uses");
                any = true;
            }
            Err(error) => tracing::warn!(%error, "Can't remove an image that nothing uses"),
        }
    }
    Ok(any)
}

fn unused<'a>(images: &'a [Image], observed: &[ObservedPod], pods: &[impl AsRef<Pod>]) -> Vec<&'a Image> {
    let mut used: HashSet<&str> = HashSet::new();
    used.extend(observed.iter().flat_map(|pod| &pod.containers).flat_map(|c| [c.image.as_str(), c.image_id.as_str()]));
    let specs = pods.iter().map(AsRef::as_ref).flat_map(|pod| spec::containers(pod).iter().chain(spec::init_containers(pod)));
    used.extend(specs.filter_map(|c| c.image.as_deref()));
    used.extend(pods.iter().flat_map(|pod| spec::ephemeral_containers(pod.as_ref())).filter_map(|c| c.image.as_deref()));
    // A name in a spec may lack what the runtime puts before or after it.
    let is_name = |name: &str| {
        used.iter().any(|used| {
            let rest = name.strip_suffix(":latest").unwrap_or(name);
            name == *used || rest == *used || [name, rest].iter().any(|n| n.ends_with(used) && n[..n.len() - used.len()].ends_with('/'))
        })
    };
    let is_used = |image: &Image| is_name(&image.id) || image.tags.iter().chain(&image.digests).any(|name| is_name(name));
    images.iter().filter(|image| !image.pinned && !is_used(image)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pods::fixture;
    use crate::runtime::ContainerPhase;

    fn image(id: &str, tags: &[&str], digests: &[&str]) -> Image {
        let all = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Image { id: id.into(), tags: all(tags), digests: all(digests), size: 1, uid: None, username: String::new(), pinned: false }
    }

    #[test]
    fn only_what_nobody_needs_goes() {
        let mut record = fixture::record("c", 0, ContainerPhase::Exited);
        (record.image, record.image_id) = ("registry/app:2".into(), "registry/app@sha256:aa".into());
        let mut pod = fixture::pod("Always", &["a", "b"]);
        let containers = &mut pod.spec.as_mut().unwrap().containers;
        containers[0].image = Some("busybox".into());
        containers[1].image = Some("sha256:8".into());
        let images = [
            image("sha256:1", &["registry/app:1"], &[]),
            image("sha256:2", &[], &["registry/app@sha256:aa"]),
            image("sha256:3", &["docker.io/library/busybox:latest"], &[]),
            image("sha256:4", &["docker.io/library/mybusybox:latest"], &[]),
            Image { pinned: true, ..image("sha256:5", &["pause:3"], &[]) },
            image("sha256:8", &[], &[]),
        ];
        let observed = ObservedPod { containers: vec![record], ..fixture::nothing() };
        let gone: Vec<&str> = unused(&images, &[observed], &[Arc::new(pod)]).iter().map(|image| image.id.as_str()).collect();
        assert_eq!(gone, ["sha256:1", "sha256:4"]);
    }
}
