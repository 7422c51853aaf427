package main

import (
	_ "github.com/bmatcuk/doublestar/v4"
	_ "github.com/cosi-project/runtime/pkg/state/protobuf/client"
	_ "github.com/cosi-project/runtime/pkg/state/protobuf/server"
	_ "github.com/cosi-project/runtime/pkg/state/impl/inmem"
	_ "github.com/fsnotify/fsnotify"
	_ "github.com/go-git/go-git/v5"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/hashicorp/go-multierror"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/siderolabs/omni/client/pkg/client"
	_ "github.com/siderolabs/omni/client/pkg/client/management"
	_ "github.com/siderolabs/omni/client/pkg/omni/resources/registry"
	_ "github.com/siderolabs/omni/client/pkg/template"
	_ "github.com/siderolabs/omni/client/pkg/template/operations"
	_ "github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	_ "github.com/spf13/cobra"
	_ "go.uber.org/zap"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/term"
	_ "google.golang.org/grpc"
	_ "google.golang.org/protobuf/testing/protocmp"
	_ "gopkg.in/yaml.v3"
	_ "go.yaml.in/yaml/v4"
	_ "k8s.io/client-go/util/workqueue"
	_ "github.com/blang/semver/v4"
	_ "k8s.io/utils/clock"
)

func main() {}
