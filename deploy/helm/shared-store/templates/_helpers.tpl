{{- define "shared-store.fullname" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What finds the pod; it must never change. */}}
{{- define "shared-store.selector" -}}
app.kubernetes.io/name: eventferry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: shared-store
{{- end -}}

{{- define "shared-store.labels" -}}
{{ include "shared-store.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "shared-store.secretName" -}}
{{ .Values.auth.existingSecret | default (include "shared-store.fullname" .) }}
{{- end -}}
