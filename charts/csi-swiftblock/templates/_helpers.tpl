{{- /* Of 40 characters at most. It has the chart's name in it, by which the alerts find the metrics. */}}
{{- define "swiftblock.name" -}}
{{- if and (contains .Chart.Name .Release.Name) (le (len .Release.Name) 40) }}{{ .Release.Name }}
{{- else }}{{ printf "%s-%s" (.Release.Name | trunc 25 | trimSuffix "-") .Chart.Name }}{{ end }}
{{- end }}

{{- define "swiftblock.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "swiftblock.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "swiftblock.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "swiftblock.controllerSecret" -}}
{{ .Values.certificates.controllerSecret | default (printf "%s-controller-tls" (include "swiftblock.name" .)) }}
{{- end }}

{{- define "swiftblock.nodeSecret" -}}
{{ .Values.certificates.nodeSecret | default (printf "%s-node-tls" (include "swiftblock.name" .)) }}
{{- end }}

{{- /* The Secret with clouds.yaml; empty if credentials come from elsewhere. */ -}}
{{- define "swiftblock.swiftSecret" -}}
{{- if .Values.swift.existingSecret }}{{ .Values.swift.existingSecret }}
{{- else if .Values.swift.clouds }}{{ include "swiftblock.name" . }}-swift{{ end }}
{{- end }}

{{- define "swiftblock.swiftEnv" -}}
{{- if include "swiftblock.swiftSecret" . }}
- {name: OS_CLIENT_CONFIG_FILE, value: /etc/csi-swiftblock/swift/clouds.yaml}
{{- else if .Values.swift.file }}
- {name: OS_CLIENT_CONFIG_FILE, value: {{ .Values.swift.file | quote }}}
{{- end }}
{{- with .Values.swift.cloud }}
- {name: OS_CLOUD, value: {{ . | quote }}}
{{- end }}
{{- with .Values.swift.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A directory, not a subPath: that would never see a new version of the Secret. */ -}}
{{- define "swiftblock.swiftMount" -}}
{{- if include "swiftblock.swiftSecret" . }}
- {name: swift, mountPath: /etc/csi-swiftblock/swift, readOnly: true}
{{- end }}
{{- end }}

{{- define "swiftblock.swiftVolume" -}}
{{- with include "swiftblock.swiftSecret" . }}
- name: swift
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "swiftblock.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
