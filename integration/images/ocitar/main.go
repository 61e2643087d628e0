// Command ocitar writes one image as an OCI archive, as `ctr images import` reads it.
//
//	ocitar -o FILE -ref NAME -entrypoint "/pause" -cmd "" -user 65535:65535 ROOT
//
// The same folder always gives the same bytes: entries are sorted, owned by root and carry no time.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

type blob struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	data        []byte
}

func newBlob(mediaType string, data []byte) blob {
	sum := sha256.Sum256(data)
	return blob{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: len(data), data: data}
}

func main() {
	log.SetFlags(0)
	out := flag.String("o", "", "archive to write")
	ref := flag.String("ref", "", "full name of the image")
	entrypoint := flag.String("entrypoint", "", "entrypoint, words split at spaces")
	cmd := flag.String("cmd", "", "default arguments, words split at spaces")
	user := flag.String("user", "", "user[:group] of the process")
	flag.Parse()
	if *out == "" || *ref == "" || flag.NArg() != 1 {
		log.Fatal("usage: ocitar -o FILE -ref NAME [-entrypoint …] [-cmd …] [-user …] ROOT")
	}
	root, err := layer(flag.Arg(0))
	if err != nil {
		log.Fatalf("packing %s: %v", flag.Arg(0), err)
	}
	archive, err := image(root, *ref, strings.Fields(*entrypoint), strings.Fields(*cmd), *user)
	if err != nil {
		log.Fatalf("building %s: %v", *ref, err)
	}
	// Written beside and renamed: a half-written archive is never taken for a finished one.
	if err := os.WriteFile(*out+".part", archive, 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(*out+".part", *out); err != nil {
		log.Fatal(err)
	}
}

// layer packs a folder as an uncompressed tar: it is read once, from the disk beside.
func layer(root string) ([]byte, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		mode := header.Mode
		*header = tar.Header{Typeflag: header.Typeflag, Name: name, Linkname: target, Mode: mode, Size: header.Size, Format: tar.FormatUSTAR}
		if entry.IsDir() {
			header.Name += "/"
		}
		if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = w.Close()
	return packed.Bytes(), err
}

func image(root []byte, ref string, entrypoint, cmd []string, user string) ([]byte, error) {
	fs := newBlob("application/vnd.oci.image.layer.v1.tar", root)
	settings := map[string]any{"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "WorkingDir": "/",
		// So that no two images have the same id: a runtime tells an image's name by it.
		"Labels": map[string]string{"org.opencontainers.image.ref.name": ref}}
	if len(entrypoint) > 0 {
		settings["Entrypoint"] = entrypoint
	}
	if len(cmd) > 0 {
		settings["Cmd"] = cmd
	}
	if user != "" {
		settings["User"] = user
	}
	configJSON, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": settings,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fs.Digest}},
	})
	if err != nil {
		return nil, err
	}
	config := newBlob("application/vnd.oci.image.config.v1+json", configJSON)
	manifestJSON, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []blob{fs},
	})
	if err != nil {
		return nil, err
	}
	manifest := newBlob("application/vnd.oci.image.manifest.v1+json", manifestJSON)
	manifest.Annotations = map[string]string{"io.containerd.image.name": ref}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []blob{manifest}})
	if err != nil {
		return nil, err
	}
	return archive(map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index}, fs, config, manifest)
}

func archive(files map[string][]byte, blobs ...blob) ([]byte, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	put := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	for _, name := range []string{"oci-layout", "index.json"} {
		if err := put(name, files[name]); err != nil {
			return nil, err
		}
	}
	for _, b := range blobs {
		if err := put("blobs/sha256/"+strings.TrimPrefix(b.Digest, "sha256:"), b.data); err != nil {
			return nil, err
		}
	}
	// Closing writes the end of the archive.
	err := w.Close()
	return packed.Bytes(), err
}
