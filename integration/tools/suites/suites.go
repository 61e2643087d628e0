//go:build suites

// Package suites names what is built with `go test -c` and is no tool: upstream's end-to-end suites.
package suites

import (
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/e2e_node"
)
