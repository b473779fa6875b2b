// Job DSL: the one job, from the pipeline beside this file.
pipelineJob('phoenix') {
    description('From a push to a rolled-out release')
    definition {
        cps {
            script(new File('/etc/jenkins/Jenkinsfile').text)
            sandbox()
        }
    }
}
// The first run registers the job's parameters and its polling.
queue('phoenix')
