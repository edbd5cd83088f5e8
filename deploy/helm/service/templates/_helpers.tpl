{{/* Names have 63 characters at most, with what is put behind them. */}}
{{- define "service.fullname" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What finds the pods of a component; it must never change. Call it with (list $ "worker"). */}}
{{- define "service.selector" -}}
app.kubernetes.io/name: eventferry
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "service.labels" -}}
{{ include "service.selector" . }}
{{- with index . 0 }}
app.kubernetes.io/version: {{ .Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- end -}}

{{- define "service.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}

{{- define "service.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "service.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* A variable whose value is the key of a Secret. Call it with (list "NAME" {secret, key}). */}}
{{- define "service.url" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 1).secret }}
      key: {{ (index . 1).key }}
{{- end -}}

{{/* The environment. Call it with (list $ urls), where urls has local and shared. */}}
{{- define "service.env" -}}
{{- $urls := index . 1 -}}
{{- with index . 0 -}}
{{ include "service.url" (list "EVENTFERRY_LOCAL_URL" $urls.local) }}
{{ include "service.url" (list "EVENTFERRY_SHARED_URL" $urls.shared) }}
{{- if .Values.urls.localListen.secret }}
{{ include "service.url" (list "EVENTFERRY_LOCAL_LISTEN_URL" .Values.urls.localListen) }}
{{- end }}
{{- if .Values.urls.sharedListen.secret }}
{{ include "service.url" (list "EVENTFERRY_SHARED_LISTEN_URL" .Values.urls.sharedListen) }}
{{- end }}
{{- with .Values.config }}
- name: EVENTFERRY_CONFIG
  value: {{ . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* What the pods of all components have in common besides their container's command. */}}
{{- define "service.container" -}}
image: {{ include "service.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "service.pod" -}}
automountServiceAccountToken: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
