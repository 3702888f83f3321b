package swift

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const clouds = `
clouds:
  old:
    auth_type: v1password
    auth: {auth_url: "http://s:8080/auth/v1.0", username: "a:b", password: SECRET}
  password:
    region_name: RegionOne
    interface: internalURL
    verify: false
    identity_api_version: 3
    auth:
      auth_url: https://keystone:5000
      username: demo
      password: SECRET
      project_name: demo
      user_domain_name: Default
      project_domain_id: default
  app:
    auth_type: v3applicationcredential
    auth: {auth_url: "https://keystone/identity/v3/", application_credential_id: 4711, application_credential_secret: SECRET}
  saml: {auth_type: v3oidcpassword, auth: {auth_url: "https://keystone"}}
  incomplete: {auth: {auth_url: "https://keystone", username: demo}}
`

func cleanEnvironment(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OS_") || strings.HasPrefix(name, "ST_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Chdir(t.TempDir())
}

func TestLoadCredentialsFromFile(t *testing.T) {
	cleanEnvironment(t)
	file := filepath.Join(t.TempDir(), "my-clouds.yaml")
	if err := os.WriteFile(file, []byte(clouds), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Credentials{
		"old": {Version: 1, AuthURL: "http://s:8080/auth/v1.0", User: "a:b", Key: "SECRET"},
		"password": {
			Version: 3, AuthURL: "https://keystone:5000/v3", User: "demo", Key: "SECRET", Project: "demo",
			UserDomain: "Default", ProjectDomainID: "default", Region: "RegionOne", Interface: "internal", Insecure: true,
		},
		"app": {Version: 3, AuthURL: "https://keystone/identity/v3/", AppID: "4711", AppSecret: "SECRET"},
	} {
		for _, way := range []string{"argument", "OS_CLOUD", "OS_CLIENT_CONFIG_FILE"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				f, cloud := file, name
				if way == "OS_CLOUD" {
					t.Setenv("OS_CLOUD", name)
					cloud = ""
				}
				if way == "OS_CLIENT_CONFIG_FILE" {
					t.Setenv("OS_CLIENT_CONFIG_FILE", file)
					f = ""
				}
				got, err := LoadCredentials(f, cloud)
				if err != nil || got != want {
					t.Errorf("%#v, %v", got, err)
				}
				for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
					if s := fmt.Sprintf(verb, got); strings.Contains(s, "SECRET") || s == "" {
						t.Errorf("%s tells the secret: %s", verb, s)
					}
				}
			})
		}
	}
}

func TestLoadCredentialsFromEnvironment(t *testing.T) {
	cleanEnvironment(t)
	for name, value := range map[string]string{
		"OS_AUTH_URL": "http://k/v3", "OS_USERNAME": "demo", "OS_PASSWORD": "SECRET", "OS_PROJECT_NAME": "p",
		"OS_USER_DOMAIN_NAME": "Default", "OS_REGION_NAME": "r", "OS_INTERFACE": "public",
	} {
		t.Setenv(name, value)
	}
	want := Credentials{
		Version: 3, AuthURL: "http://k/v3", User: "demo", Key: "SECRET", Project: "p",
		UserDomain: "Default", Region: "r", Interface: "public",
	}
	if got, err := LoadCredentials("", ""); err != nil || got != want {
		t.Errorf("OS_: %v, %v", got, err)
	}
	t.Setenv("ST_AUTH", "http://s/auth/v1.0")
	t.Setenv("ST_USER", "u")
	t.Setenv("ST_KEY", "SECRET")
	want = Credentials{Version: 1, AuthURL: "http://s/auth/v1.0", User: "u", Key: "SECRET"}
	if got, err := LoadCredentials("", ""); err != nil || got != want {
		t.Errorf("ST_ before OS_: %v, %v", got, err)
	}
}

func TestLoadCredentialsSaysWhatIsWrong(t *testing.T) {
	cleanEnvironment(t)
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(clouds), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(broken, []byte("password: SECRET\n\tx"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, cloud, want string }{
		{"", "", "ST_AUTH"},
		{file, "", "OS_CLOUD"},
		{file, "absent", "incomplete, old, password"},
		{file, "saml", "v3oidcpassword"},
		{file, "incomplete", "no password"},
		{broken, "x", "not a clouds.yaml"},
		{"/absent/clouds.yaml", "x", "no such file"},
		{"", "x", "/etc/openstack/clouds.yaml"},
	} {
		_, err := LoadCredentials(c.file, c.cloud)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s of %s: %v, want it to say %q and no secret", c.cloud, c.file, err, c.want)
		}
	}
	t.Setenv("ST_AUTH", "s:8080")
	if _, err := LoadCredentials("", ""); err == nil || !strings.Contains(err.Error(), "http(s)://") {
		t.Errorf("not an URL: %v", err)
	}
}
