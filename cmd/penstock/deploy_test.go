package main

// The files in deploy/: each is held against the program that reads it, where that is installed,
// and against the settings that there are.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"penstock/server"
	"penstock/server/tuning"

	"penstock/server/servertest"
)

// deployed reads a file of deploy/.
func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// asked runs a program that is to be content.
func asked(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// environment makes the settings that a file gives by PENSTOCK_... into ones for a process of a
// test: addresses free, the tokens in a file of its own.
func environment(t *testing.T, given map[string]string) (env []string) {
	t.Helper()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		if !slices.ContainsFunc(server.Settings(), func(s server.Setting) bool { return s.Env == name }) {
			t.Errorf("%s is no setting", name)
		}
		switch name {
		case "PENSTOCK_LISTEN", "PENSTOCK_ADMIN_LISTEN":
			value = "127.0.0.1:0"
		case "PENSTOCK_PUBLISH_TOKEN_FILE":
			value = tokens
		}
		env = append(env, name+"="+value)
	}
	return env
}

// duration is a setting of a file, or the default.
func duration(t *testing.T, given map[string]string, name string) time.Duration {
	t.Helper()
	for _, s := range server.Settings() {
		if s.Env == name {
			text := s.Default
			if v, ok := given[name]; ok {
				text = v
			}
			d, err := server.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	t.Fatalf("%s is no setting", name)
	return 0
}

// enough asks `penstock tune` whether a container with so much memory holds so many.
func enough(t *testing.T, what, connections, ring string, memory int64) {
	t.Helper()
	root := machine(t, map[string]string{
		"proc/self/cgroup":         "0::/\n",
		"sys/fs/cgroup/memory.max": fmt.Sprintln(memory),
	})
	r := enter(t, nil, "tune", "--root", root, "--connections", connections, "--ring-size", ring)
	if r.code != exitOK || strings.Contains(r.stdout, "slows") {
		t.Errorf("%s: %d bytes of memory are too few: %s", what, memory, r.stdout)
	}
}

// startsWith starts a server with such settings, and asks it as a probe does.
func startsWith(t *testing.T, env []string) {
	t.Helper()
	s := serve(t, env)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, text := s.get(path); status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestDeployedUnitIsValid(t *testing.T) {
	analyze := servertest.Program(t, "systemd-analyze")
	text := deployed(t, "penstock.service")
	if !strings.Contains(text, "ExecStart=/usr/local/bin/penstock serve ") {
		t.Fatal("the unit starts something else")
	}
	// The program has to be there.
	path := filepath.Join(t.TempDir(), "penstock.service")
	text = strings.ReplaceAll(text, "/usr/local/bin/penstock", os.Args[0])
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// It says what it does not know and is content all the same.
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput()
	if err != nil || strings.Contains(string(out), "penstock.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if _, after, ok := strings.Cut(text, "TimeoutStopSec="); ok {
		var stop int
		_, _ = fmt.Sscan(after, &stop)
		if drain := duration(t, settingsFile(t), "PENSTOCK_DRAIN_TIME"); time.Duration(stop)*time.Second < drain+15*time.Second {
			t.Errorf("systemd kills after %d s, while a drain takes %s and some", stop, drain)
		}
	}
}

// settingsFile reads deploy/penstock.yaml as if it were the environment.
func settingsFile(t *testing.T) map[string]string {
	t.Helper()
	var file map[string]any
	if err := yaml.UnmarshalWithOptions([]byte(deployed(t, "penstock.yaml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	given := map[string]string{}
	for key, value := range file {
		given[server.EnvName(key)] = fmt.Sprint(value)
	}
	return given
}

func TestDeployedSettingsStartAServer(t *testing.T) {
	environment(t, settingsFile(t))
	text := strings.NewReplacer("127.0.0.1:8080", "127.0.0.1:0", "127.0.0.1:8081", "127.0.0.1:0").Replace(deployed(t, "penstock.yaml"))
	tokens := filepath.Join(t.TempDir(), "tokens")
	path := filepath.Join(t.TempDir(), "penstock.yaml")
	text = strings.ReplaceAll(text, "/etc/penstock/tokens", tokens)
	if err := errors.Join(os.WriteFile(tokens, []byte("secret\n"), 0o600), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := serve(t, nil, "--config", path)
	if status, text := s.get("/readyz"); status != 200 {
		t.Errorf("/readyz: %d %s", status, text)
	}
}

// A compose is what compose.yaml may hold: another key is an error.
type compose struct {
	Services map[string]struct {
		Build           struct{ Context string }
		Image, Restart  string
		Ports           []string
		Environment     map[string]string
		Secrets         []string
		StopGracePeriod string `yaml:"stop_grace_period"`
		Ulimits         struct{ Nofile struct{ Soft, Hard int } }
		Sysctls         map[string]string
		MemLimit        string   `yaml:"mem_limit"`
		ReadOnly        bool     `yaml:"read_only"`
		CapDrop         []string `yaml:"cap_drop"`
		SecurityOpt     []string `yaml:"security_opt"`
		Logging         struct {
			Driver  string
			Options map[string]string
		}
	}
	Secrets map[string]struct{ File string }
}

func TestDeployedComposeIsWhole(t *testing.T) {
	var c compose
	if err := yaml.UnmarshalWithOptions([]byte(deployed(t, "compose.yaml")), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	p, ok := c.Services["penstock"]
	if !ok || len(c.Services) != 1 {
		t.Fatalf("services %v", c.Services)
	}
	for _, secret := range p.Secrets {
		if c.Secrets[secret].File == "" || p.Environment["PENSTOCK_PUBLISH_TOKEN_FILE"] != "/run/secrets/"+secret {
			t.Errorf("the secret %q has no file, or the server reads %q", secret, p.Environment["PENSTOCK_PUBLISH_TOKEN_FILE"])
		}
	}
	grace, err := time.ParseDuration(p.StopGracePeriod)
	if drain := duration(t, p.Environment, "PENSTOCK_DRAIN_TIME"); err != nil || grace < drain+15*time.Second {
		t.Errorf("docker kills after %s (%v), while a drain takes %s and some", p.StopGracePeriod, err, drain)
	}
	n, err := server.ParseCount(p.Environment["PENSTOCK_MAX_CONNECTIONS"])
	if err != nil || p.Ulimits.Nofile.Hard < n+tuning.FilesReserve || p.Ulimits.Nofile.Soft > p.Ulimits.Nofile.Hard {
		t.Errorf("%d connections (%v) with %+v", n, err, p.Ulimits)
	}
	for _, key := range slices.Collect(maps.Keys(p.Sysctls)) {
		if !strings.HasPrefix(key, "net.") {
			t.Errorf("docker can't set %s: it is the host's", key)
		}
	}
	enough(t, "compose.yaml", p.Environment["PENSTOCK_MAX_CONNECTIONS"], p.Environment["PENSTOCK_RING_SIZE"], quantity(t, p.MemLimit))
	startsWith(t, environment(t, p.Environment))
}

// quantity reads an amount of memory as docker and Kubernetes write it.
func quantity(t *testing.T, text string) int64 {
	t.Helper()
	var n int64
	var unit string
	_, _ = fmt.Sscanf(text, "%d%s", &n, &unit)
	factor := map[string]int64{"g": 1 << 30, "Gi": 1 << 30, "m": 1 << 20, "Mi": 1 << 20}[unit]
	if n*factor <= 0 {
		t.Fatalf("%q is no amount of memory", text)
	}
	return n * factor
}

// What kubernetes.yaml may hold: another key is an error.
type (
	meta struct {
		Name                string
		Labels, Annotations map[string]string
	}
	header struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   meta
	}
	selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	deployment struct {
		Head header `yaml:",inline"`
		Spec struct {
			Replicas int
			Strategy struct{ Type string }
			Selector selector
			Template struct {
				Metadata meta
				Spec     podSpec
			}
		}
	}
	podSpec struct {
		TerminationGracePeriodSeconds int  `yaml:"terminationGracePeriodSeconds"`
		AutomountServiceAccountToken  bool `yaml:"automountServiceAccountToken"`
		SecurityContext               struct {
			RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
			RunAsUser      int                   `yaml:"runAsUser"`
			RunAsGroup     int                   `yaml:"runAsGroup"`
			FSGroup        int                   `yaml:"fsGroup"`
			SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
			Sysctls        []struct{ Name, Value string }
		} `yaml:"securityContext"`
		Containers []podContainer
		Volumes    []struct {
			Name   string
			Secret struct {
				SecretName string `yaml:"secretName"`
			}
		}
	}
	podContainer struct {
		Name, Image     string
		ImagePullPolicy string `yaml:"imagePullPolicy"`
		Ports           []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
		}
		Env            []struct{ Name, Value string }
		Resources      struct{ Requests, Limits struct{ CPU, Memory string } }
		StartupProbe   probe `yaml:"startupProbe"`
		LivenessProbe  probe `yaml:"livenessProbe"`
		ReadinessProbe probe `yaml:"readinessProbe"`
		Lifecycle      struct {
			PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
		}
		SecurityContext struct {
			AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string }
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	probe struct {
		HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
		PeriodSeconds    int                         `yaml:"periodSeconds"`
		TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
		FailureThreshold int                         `yaml:"failureThreshold"`
	}
	service struct {
		Head header `yaml:",inline"`
		Spec struct {
			Selector map[string]string
			Ports    []struct {
				Name       string
				Port       int
				TargetPort string `yaml:"targetPort"`
			}
		}
	}
	budget struct {
		Head header `yaml:",inline"`
		Spec struct {
			MaxUnavailable int `yaml:"maxUnavailable"`
			Selector       selector
		}
	}
)

func TestDeployedPodIsWhole(t *testing.T) {
	var d deployment
	var s service
	var b budget
	decoder := yaml.NewDecoder(strings.NewReader(deployed(t, "kubernetes.yaml")), yaml.Strict())
	for _, into := range []any{&d, &s, &b} {
		if err := decoder.Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	if err := decoder.Decode(&budget{}); !errors.Is(err, io.EOF) {
		t.Errorf("after three documents: %v", err)
	}
	for what, got := range map[string][2]string{
		"Deployment":          {d.Head.APIVersion + " " + d.Head.Kind, "apps/v1 Deployment"},
		"Service":             {s.Head.APIVersion + " " + s.Head.Kind, "v1 Service"},
		"PodDisruptionBudget": {b.Head.APIVersion + " " + b.Head.Kind, "policy/v1 PodDisruptionBudget"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %s", what, got[0])
		}
	}
	pod := d.Spec.Template.Spec
	for what, labels := range map[string]map[string]string{"deployment": d.Spec.Selector.MatchLabels, "service": s.Spec.Selector, "budget": b.Spec.Selector.MatchLabels} {
		if len(labels) == 0 || !maps.Equal(labels, d.Spec.Template.Metadata.Labels) {
			t.Errorf("the %s selects %v, and the pod has %v", what, labels, d.Spec.Template.Metadata.Labels)
		}
	}
	c := pod.Containers[0]
	ports := map[string]int{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if len(s.Spec.Ports) != 1 || ports[s.Spec.Ports[0].TargetPort] == 0 || fmt.Sprintf(":%d", ports["http"]) != env["PENSTOCK_LISTEN"] ||
		fmt.Sprintf(":%d", ports["admin"]) != env["PENSTOCK_ADMIN_LISTEN"] || d.Spec.Template.Metadata.Annotations["prometheus.io/port"] != fmt.Sprint(ports["admin"]) {
		t.Errorf("ports %v, service %+v, listening on %s and %s", ports, s.Spec.Ports, env["PENSTOCK_LISTEN"], env["PENSTOCK_ADMIN_LISTEN"])
	}
	for _, p := range []probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if ports[p.HTTPGet.Port] == 0 || p.PeriodSeconds == 0 || p.HTTPGet.Path != "/healthz" && p.HTTPGet.Path != "/readyz" {
			t.Errorf("a probe %+v", p)
		}
	}
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("a server that drains is alive and not ready")
	}
	drain := duration(t, env, "PENSTOCK_DRAIN_TIME") + time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second
	if grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second; c.Lifecycle.PreStop.Sleep.Seconds == 0 || grace < drain+15*time.Second {
		t.Errorf("Kubernetes kills after %s, while preStop and drain take %s and some", grace, drain)
	}
	if d.Spec.Replicas != 1 || d.Spec.Strategy.Type != "Recreate" || b.Spec.MaxUnavailable != 1 {
		t.Error("two pods are two rings, and a node must be able to drain")
	}
	if len(pod.Volumes) != 1 || len(c.VolumeMounts) != 1 || pod.Volumes[0].Name != c.VolumeMounts[0].Name || !strings.HasPrefix(env["PENSTOCK_PUBLISH_TOKEN_FILE"], c.VolumeMounts[0].MountPath+"/") {
		t.Errorf("volumes %+v mounted %+v, tokens in %s", pod.Volumes, c.VolumeMounts, env["PENSTOCK_PUBLISH_TOKEN_FILE"])
	}
	safe := []string{"net.ipv4.tcp_syncookies", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"}
	for _, s := range pod.SecurityContext.Sysctls {
		if !slices.Contains(safe, s.Name) {
			t.Errorf("a kubelet does not allow %s by itself", s.Name)
		}
	}
	if !pod.SecurityContext.RunAsNonRoot || c.SecurityContext.AllowPrivilegeEscalation || !c.SecurityContext.ReadOnlyRootFilesystem || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		t.Error("the pod may do more than it needs")
	}
	enough(t, "kubernetes.yaml", env["PENSTOCK_MAX_CONNECTIONS"], env["PENSTOCK_RING_SIZE"], quantity(t, c.Resources.Limits.Memory))
	startsWith(t, environment(t, env))
}

// The sysctl file is read by sysctl as it is.
func TestDeployedSysctlsAreRead(t *testing.T) {
	sysctl := servertest.Program(t, "sysctl")
	if out, err := exec.CommandContext(t.Context(), sysctl, "--help").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--dry-run")) {
		t.Skip("this sysctl has no --dry-run")
	}
	asked(t, sysctl, "--dry-run", "--load", filepath.Join("..", "..", "deploy", "60-penstock.conf"))
}

// What tuning.md says to type is taken as it stands: a server starts with each of its serve lines,
// and each tune line says whether so many fit.
func TestTheGuidesCommandsAreTaken(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "tuning.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "guide") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	lines := 0
	for block := range strings.SplitSeq(string(text), "\n```\n") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			line, _, _ = strings.Cut(line, " > ")
			args := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "penstock serve "):
				line = strings.NewReplacer("127.0.0.1:8080", "127.0.0.1:0", "/run/penstock/", dir+"/").Replace(line)
				s := process(t, []string{"PENSTOCK_ADMIN_LISTEN=none"}, withAddress(strings.Fields(line)[2:])...)
				poll(t, line+" to serve", func() bool {
					select {
					case <-s.ended:
						t.Fatalf("%s ended: %s", line, s.said())
					default:
					}
					return servingAt(s.said()) != ""
				})
				_ = s.cmd.Process.Kill()
			case strings.HasPrefix(line, "penstock tune "):
				if r := enter(t, nil, args[1:]...); r.code != exitOK && r.code != exitTooSmall {
					t.Errorf("%s: %+v", line, r)
				}
			default:
				continue
			}
			lines++
		}
	}
	if lines < 5 {
		t.Errorf("%d commands found in tuning.md", lines)
	}
}

// withAddress adds a free address where the arguments have none.
func withAddress(args []string) []string {
	if slices.Contains(args, "--listen") {
		return args
	}
	return append(args, "--listen", "127.0.0.1:0")
}
