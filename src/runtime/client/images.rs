//! Calls about images.

use std::path::PathBuf;

use proto::cri::{
    AuthConfig, FilesystemUsage, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest, PodSandboxConfig, PullImageRequest,
    RemoveImageRequest,
};

use super::call::{filled, fine_when_gone, garbage, unbounded, within};
use super::{CriRuntime, FileSystems, Image, RegistryAuth, Result, convert};

fn spec(reference: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: reference.to_owned(), ..Default::default() })
}

pub(super) async fn status(cri: &CriRuntime, reference: &str) -> Result<Option<Image>> {
    let action = format!("look for image {reference}");
    let mut client = cri.images();
    let message = ImageStatusRequest { image: spec(reference), verbose: false };
    let answer = within(&action, cri.timeout, message, |r| async move { client.image_status(r).await }).await?;
    answer.image.map(convert::image).transpose().map_err(|what| garbage(&action, what))
}

pub(super) async fn list(cri: &CriRuntime) -> Result<Vec<Image>> {
    const ACTION: &str = "list images";
    let mut client = cri.images();
    let answer = within(ACTION, cri.timeout, ListImagesRequest { filter: None }, |r| async move { client.list_images(r).await }).await?;
    answer.images.into_iter().map(|i| convert::image(i).map_err(|what| garbage(ACTION, what))).collect()
}

pub(super) async fn pull(
    cri: &CriRuntime,
    reference: &str,
    auth: Option<&RegistryAuth>,
    sandbox_config: &PodSandboxConfig,
) -> Result<String> {
    let action = format!("pull image {reference}");
    let auth = auth.cloned().map(|RegistryAuth { username, password, server, identity_token }| AuthConfig {
        username,
        password,
        server_address: server,
        identity_token,
        ..Default::default()
    });
    let message = PullImageRequest { image: spec(reference), auth, sandbox_config: Some(sandbox_config.clone()) };
    let mut client = cri.images();
    let answer = unbounded(&action, message, |r| async move { client.pull_image(r).await }).await?;
    filled(&action, "image reference", answer.image_ref)
}

pub(super) async fn remove(cri: &CriRuntime, reference: &str) -> Result<()> {
    let action = format!("remove image {reference}");
    let mut client = cri.images();
    let message = RemoveImageRequest { image: spec(reference) };
    fine_when_gone(within(action, cri.timeout, message, |r| async move { client.remove_image(r).await }).await)
}

pub(super) async fn file_systems(cri: &CriRuntime) -> Result<FileSystems> {
    const ACTION: &str = "ask where images are kept";
    let mut client = cri.images();
    let answer = within(ACTION, cri.timeout, ImageFsInfoRequest {}, |r| async move { client.image_fs_info(r).await }).await?;
    let first = |all: Vec<FilesystemUsage>| {
        let place = all.into_iter().find_map(|one| one.fs_id).map(|id| id.mountpoint);
        place.filter(|place| place.starts_with('/')).map(PathBuf::from)
    };
    let images = first(answer.image_filesystems).ok_or_else(|| garbage(ACTION, "no path".to_owned()))?;
    Ok(FileSystems { containers: first(answer.container_filesystems).unwrap_or_else(|| images.clone()), images })
}
