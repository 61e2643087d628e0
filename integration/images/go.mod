module kubelet-rs.io/integration/images

go 1.26
