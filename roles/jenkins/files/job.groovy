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
// The first run tells the job of its parameters and of what it has to poll.
queue('phoenix')
